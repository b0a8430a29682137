"""From labelled video files to prepared clips: labels, storage, views, splits, data-set layouts."""
