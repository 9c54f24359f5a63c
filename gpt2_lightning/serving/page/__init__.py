"""The page of the server: one HTML file, joined from the files of this folder."""
