"""The small text-to-image model that ships with the project, trained on pictures that it draws itself.

    python -m scripts.painter.train

``scenes`` thinks up what to draw and how to say it, ``drawing`` and ``landscapes`` draw it, ``autoencoder`` learns to
compress the pictures, ``latents`` compresses them once, ``denoiser`` learns to paint from captions, ``export`` writes
the pipeline in the diffusers format, and ``checker`` judges by pixels whether a picture shows what was asked for.
"""
