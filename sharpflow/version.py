"""The version of the package; no job reads this file, so a release makes nothing again."""

VERSION = "0.1.0"
