"""The admin port: HTTP, metrics, health, the console in a browser; and the files of conf/ that watch and run nodes."""
