"""Pictures and captions: found, checked, put into buckets, cached, and dealt out in an order that repeats."""
