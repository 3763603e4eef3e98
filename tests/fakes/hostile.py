"""Small PDFs that ask much of their parser."""

import zlib


def _pdf(objects: list[bytes]) -> bytes:
    out, places = bytearray(b"%PDF-1.7\n"), []
    for number, one in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, one)
    table = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % place for place in places)
    return bytes(out + b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF" % (len(objects) + 1, table))


def _stream(content: bytes, words: bytes = b"") -> bytes:
    return b"<< /Length %d %s >>\nstream\n%s\nendstream" % (len(content), words, content)


def _page(content: bytes, resources: bytes = b"<< >>") -> list[bytes]:
    return [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 99 99] /Contents 4 0 R /Resources %s >>" % resources,
        content,
    ]


def hanging(levels: int = 9, width: int = 30) -> bytes:
    """A page that shows a form, which shows the next one so many times, and so on: nobody lives to see its end."""
    objects = _page(_stream(b"/F Do"), b"<< /XObject << /F 5 0 R >> >>")
    for number in range(5, 5 + levels):
        words = b"/Type /XObject /Subtype /Form /BBox [0 0 99 99] /Resources << /XObject << /F %d 0 R >> >>" % (
            number + 1
        )
        objects.append(_stream(b"/F Do\n" * width, words))
    objects.append(_stream(b"0 0 m", b"/Type /XObject /Subtype /Form /BBox [0 0 99 99]"))
    return _pdf(objects)


def bomb(mebibytes: int = 4096) -> bytes:
    """A page whose one string is so large when it is unpacked."""
    packer = zlib.compressobj(9)
    packed = packer.compress(b"BT (")
    for _ in range(mebibytes):
        packed += packer.compress(b"a" * 2**20)
    return _pdf(_page(_stream(packed + packer.compress(b") Tj ET") + packer.flush(), b"/Filter /FlateDecode")))
