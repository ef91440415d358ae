"""The templates that come with the platform: what is usually wanted of common papers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class BuiltIn:
    name: str
    title: str
    schema: dict[str, Any]
    instructions: str


def _schema(required: list[str], **properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def _text(description: str) -> dict[str, Any]:
    return {"type": ["string", "null"], "description": description}


def _date(description: str) -> dict[str, Any]:
    return {"type": ["string", "null"], "format": "date", "description": description}


def _sum(description: str) -> dict[str, Any]:
    return {"type": ["number", "null"], "description": description}


_ITEMS = {
    "type": "array",
    "description": "each line of goods or services",
    "items": {
        "type": "object",
        "properties": {
            "name": _text("what was bought"),
            "quantity": _sum("how many"),
            "unit_price": _sum("price of one"),
            "amount": _sum("price of all of them"),
        },
        "required": ["name", "quantity", "unit_price", "amount"],
        "additionalProperties": False,
    },
}
_AS_PRINTED = (
    "Copy names and addresses as they are printed. Dates are YYYY-MM-DD, sums are numbers without "
    "a currency. What the document does not say is null."
)

RECEIPT = BuiltIn(
    "receipt",
    "Receipt · 영수증",
    _schema(
        ["company", "date", "address", "total"],
        company=_text("name of the shop or company that issued it (상호)"),
        date=_date("day of the purchase (날짜)"),
        address=_text("address of the shop (주소)"),
        total=_sum("what was to be paid in all, after rounding (합계)"),
        tax=_sum("tax contained in the total (부가세)"),
        currency=_text("ISO 4217 code (통화)"),
    ),
    f"The text is a receipt. {_AS_PRINTED}",
)
INVOICE = BuiltIn(
    "invoice",
    "Invoice · 세금계산서",
    _schema(
        ["invoice_number", "invoice_date", "seller", "buyer", "total"],
        invoice_number=_text("number of the invoice (승인번호)"),
        invoice_date=_date("day of issue (작성일자)"),
        due_date=_date("day by which it is to be paid (지급기한)"),
        seller=_text("who sent it (공급자 상호)"),
        seller_registration_number=_text("the seller's registration number (사업자등록번호)"),
        seller_address=_text("the seller's address (주소)"),
        buyer=_text("who is to pay (공급받는자)"),
        subtotal=_sum("sum before tax (공급가액)"),
        tax=_sum("tax (세액)"),
        total=_sum("sum to be paid (합계금액)"),
        currency=_text("ISO 4217 code (통화)"),
        items=_ITEMS,
    ),
    f"The text is an invoice. {_AS_PRINTED}",
)
ID_CARD = BuiltIn(
    "id-card",
    "ID card · 신분증",
    _schema(
        ["name", "id_number"],
        document_type=_text("what kind of document it is, such as 주민등록증 or driving licence"),
        name=_text("full name of the holder (성명)"),
        id_number=_text("number of the holder or the document (주민등록번호)"),
        birth_date=_date("date of birth (생년월일)"),
        sex=_text("as printed (성별)"),
        nationality=_text("as printed (국적)"),
        address=_text("address of the holder (주소)"),
        issue_date=_date("day of issue (발급일)"),
        expiry_date=_date("last day of validity (만료일)"),
    ),
    f"The text is an identity card, a driving licence or a passport. {_AS_PRINTED}",
)

BUILT_IN = (RECEIPT, INVOICE, ID_CARD)
