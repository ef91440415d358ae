"""PDFs written by hand, to have exactly the faults that a test needs."""

from __future__ import annotations

import hashlib

_PADDING = bytes.fromhex("28bf4e5e4e758a4164004e56fffa01082e2e00b6d0683e802f0ca9fe6453697a")


def pdf(pages: int = 1, *, box: tuple[int, int] = (200, 100), extra: bytes = b"") -> bytes:
    """A PDF of blank pages; `extra` goes into the trailer."""
    kids = b" ".join(b"%d 0 R" % (3 + n) for n in range(pages))
    return _file(
        [
            b"<</Type/Catalog/Pages 2 0 R>>",
            b"<</Type/Pages/Count %d/Kids[%s]/MediaBox[0 0 %d %d]>>" % (pages, kids, *box),
            *[b"<</Type/Page/Parent 2 0 R>>"] * pages,
        ],
        extra,
    )


def pdf_form(value: str) -> bytes:
    """A page whose only text is what was filled into a form's field, with no drawn appearance."""
    return _file(
        [
            b"<</Type/Catalog/Pages 2 0 R/AcroForm<</Fields[4 0 R]/NeedAppearances true"
            b"/DA(/Helv 24 Tf 0 g)/DR<</Font<</Helv 5 0 R>>>>>>>>",
            b"<</Type/Pages/Count 1/Kids[3 0 R]/MediaBox[0 0 200 100]>>",
            b"<</Type/Page/Parent 2 0 R/Annots[4 0 R]>>",
            b"<</Type/Annot/Subtype/Widget/FT/Tx/T(name)/F 4/Rect[20 30 180 70]"
            b"/DA(/Helv 24 Tf 0 g)/V(%s)>>" % value.encode(),
            b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
        ]
    )


def pdf_encrypted(*, user: bytes, owner: bytes) -> bytes:
    """A PDF under the standard 40-bit handler (PDF 1.7, 7.6.3); `user` opens it, b"" for anyone."""
    identity, permissions = b"0123456789abcdef", (-4).to_bytes(4, "little", signed=True)
    locked = _rc4(hashlib.md5(_padded(owner)).digest()[:5], _padded(user))
    key = hashlib.md5(_padded(user) + locked + permissions + identity).digest()[:5]
    handler = b"<</Filter/Standard/V 1/R 2/P -4/O<%s>/U<%s>>>" % (
        locked.hex().encode(),
        _rc4(key, _PADDING).hex().encode(),
    )
    number = identity.hex().encode()
    return pdf(extra=b"/Encrypt %s/ID[<%s><%s>]" % (handler, number, number))


def _file(objects: list[bytes], extra: bytes = b"") -> bytes:
    out, places = bytearray(b"%PDF-1.7\n"), []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % place for place in places)
    out += b"trailer\n<</Size %d/Root 1 0 R%s>>\n" % (len(objects) + 1, extra)
    return bytes(out + b"startxref\n%d\n%%%%EOF\n" % table)


def _padded(password: bytes) -> bytes:
    return (password + _PADDING)[:32]


def _rc4(key: bytes, data: bytes) -> bytes:
    state, j = list(range(256)), 0
    for i in range(256):
        j = (j + state[i] + key[i % len(key)]) % 256
        state[i], state[j] = state[j], state[i]
    out, i, j = bytearray(), 0, 0
    for byte in data:
        i = (i + 1) % 256
        j = (j + state[i]) % 256
        state[i], state[j] = state[j], state[i]
        out.append(byte ^ state[(state[i] + state[j]) % 256])
    return bytes(out)
