"""Everything that is measured on a trained universal sparse autoencoder, one idea per module.

All of it streams: an accumulator has `update` for one chunk of images and `merge` for the work of another
process, and never holds anything that grows with the number of images.
"""
