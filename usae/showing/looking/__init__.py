"""One's own pictures: their codes, where a concept is in them, and the page of `usae look`."""
