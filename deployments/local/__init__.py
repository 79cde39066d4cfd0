"""`make serve`: the whole service on one machine, with an embedded store, an embedded Ray and the embedded model."""
