"""Users' files: names, types, blobs and images. Metadata and quotas are in ``pipeline.store.files``; no HTTP here.

Whoever has bytes to keep gives them to ``FileStore.put``; a replica that made a picture to ``FileStore.make``, and the end of the
prompt keeps it.
"""
