"""The address of Open WebUI, as a user may mistype it."""

from __future__ import annotations

import pytest

from emberq.errors import InvalidRequest
from emberq.openwebui.sidecar.transport import OpenWebUITransport


@pytest.mark.parametrize("url", ["http://[::1", "http://host:port"])
def test_an_address_that_is_no_url_is_an_error_of_ours(url: str) -> None:
    with pytest.raises(InvalidRequest, match="is not a URL"):
        OpenWebUITransport(url)
