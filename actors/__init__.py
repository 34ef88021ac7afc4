"""The actor kernel on pykka, and one file per kind of actor."""
