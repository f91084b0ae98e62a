"""Which names the drawing page answers to."""

import socket

import pytest

from nnpipe.demo.app import answers_to

ALLOWED = [
    "localhost",
    "localhost:8000",
    "LocalHost:8000",
    "127.0.0.1:8000",
    "192.168.1.7",
    "[::1]:8000",
    "[fe80::1]",
    socket.gethostname(),
    "digits.example:8000",
    "Digits.Example",
]
REFUSED = [
    "",
    ":8000",
    "rebound.example",
    "rebound.example:8000",
    "localhost.rebound.example",
    "127.0.0.1.rebound.example:8000",
    "xdigits.example",
    "sub.digits.example",
    "[::1",
    "[localhost]",
    "127.0.0.1, rebound.example",
    "*",
]


@pytest.mark.parametrize("host", ALLOWED)
def test_addresses_own_names_and_allowed_names_are_answered(host):
    assert answers_to(host, {"digits.example"})


@pytest.mark.parametrize("host", REFUSED)
def test_other_names_are_not_answered(host):
    assert not answers_to(host, {"digits.example"})


def test_a_star_allows_every_name():
    assert answers_to("rebound.example", {"*"})
