"""The status page: plain HTML, CSS and JavaScript modules that a browser runs as they are."""
