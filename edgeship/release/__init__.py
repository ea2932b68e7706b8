"""Release: signed, content-addressed, TUF."""
