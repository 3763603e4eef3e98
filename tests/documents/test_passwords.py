import pytest

from ringfence.documents.passwords import seal, unseal
from ringfence.ids import new_document_id

KEY, OTHER = b"k" * 32, b"o" * 32


@pytest.mark.parametrize("password", ["geheim", "größer 密码", "x" * 1024])
def test_a_sealed_password_opens_again(password):
    document_id = new_document_id()
    sealed = seal(KEY, document_id, password)
    assert password not in sealed
    assert sealed != seal(KEY, document_id, password)
    assert unseal(KEY, document_id, sealed) == password


def test_it_opens_for_nothing_else():
    document_id = new_document_id()
    sealed = seal(KEY, document_id, "geheim")
    assert unseal(OTHER, document_id, sealed) is None
    assert unseal(KEY, new_document_id(), sealed) is None
    assert unseal(KEY, document_id, sealed[:-4]) is None
    assert unseal(KEY, document_id, "no base64!") is None
