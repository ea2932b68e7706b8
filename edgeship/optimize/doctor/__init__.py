"""Why a conversion or quantization fails: the smallest part that does, and the fix that works."""
