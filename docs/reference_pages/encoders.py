"""The card of the shipped encoder, page and figures."""

from __future__ import annotations

from functools import cache

from lymphoscope.encoders.encoder import create_encoder
from lymphoscope.encoders.kept import SHIPPED
from lymphoscope.report.encoder_card import card_files, card_key

_IMAGES = "../images/"


def page() -> str:
    """Markdown of the card."""
    return _made()[0]


def figures() -> dict[str, bytes]:
    """The card's figures by name."""
    return _made()[1]


@cache
def key() -> str:
    """What each figure holds as its description while it is current."""
    return card_key(create_encoder(SHIPPED))


@cache
def _made() -> tuple[str, dict[str, bytes]]:
    return card_files(create_encoder(SHIPPED), images=_IMAGES)
