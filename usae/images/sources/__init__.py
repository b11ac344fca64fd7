"""Sources of images: folders, Parquet files, generated scenes; split and written as an index (stage `images`)."""
