"""The command `tl-dream`."""

from tl_dream.cli.app import main
