"""What the programs of preprocess/ do: a folder of pictures in, crops, captions, tags, masks and reports out."""
