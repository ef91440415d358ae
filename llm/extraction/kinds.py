"""What fields of forms are called in schemas and on paper, in English and Korean."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import cache
from typing import Literal

from llm.extraction.fields import Field, words_of

Sort = Literal["money", "date", "time", "code", "phone", "place", "text", "currency", "items"]


@dataclass(frozen=True, slots=True)
class Kind:
    """`names`: of properties in schemas. `labels`: what is printed beside the value, best first."""

    name: str
    sort: Sort
    names: tuple[str, ...]
    labels: tuple[str, ...] = ()


def _all(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split("|"))


KINDS = (
    Kind(
        "total",
        "money",
        _all(
            "total|total amount|amount total|grand total|total price|total due|amount due|sum|"
            "amount|balance due|invoice total|receipt total|payable|합계|합계금액|총액|총금액|"
            "총 금액|결제금액|청구금액|총합계|금액"
        ),
        _all(
            "grand total|total rounded|rounded total|round d total|amount due|balance due|"
            "total due|total payable|amount payable|total amt payable|total amt rounded|"
            "net total|nett total|total to pay|bill total|합계금액|총합계|총 합계|총결제금액|"
            "결제금액|결제 금액|받을금액|청구금액|총액|총금액|합계|총계|합 계|판매금액"
        ),
    ),
    Kind(
        "subtotal",
        "money",
        _all("subtotal|sub total|net amount|net total|net|amount before tax|공급가액|소계"),
        _all(
            "subtotal|sub total|net amount|total excluding|total excl|total before tax|"
            "excluding gst|공급가액|공급 가액|소계|과세물품가액|과세금액"
        ),
    ),
    Kind(
        "tax",
        "money",
        _all("tax|tax amount|vat|gst|sales tax|total tax|vat amount|부가세|부가가치세|세액"),
        _all(
            "total gst|total tax|total vat|sales tax|service tax|vat|gst|tax|부가가치세|부가세|"
            "부 가 세|세액|세 액"
        ),
    ),
    Kind(
        "discount",
        "money",
        _all("discount|discount amount|rebate|할인|할인금액|할인액"),
        _all("discount|rebate|you saved|할인금액|할인액|할인|에누리"),
    ),
    Kind(
        "paid",
        "money",
        _all("paid|amount paid|cash|tendered|payment|받은금액|지불금액|현금"),
        _all("amount paid|paid amount|tendered|cash|visa|master|card|받은금액|받은돈|현금|카드"),
    ),
    Kind(
        "change",
        "money",
        _all("change|change due|거스름돈|잔돈"),
        _all("change due|cash change|change|거스름돈|거스름|잔돈"),
    ),
    Kind(
        "tip",
        "money",
        _all("tip|gratuity|service charge|봉사료"),
        _all("service charge|svc chg|gratuity|tip|봉사료"),
    ),
    Kind(
        "shipping",
        "money",
        _all("shipping|freight|delivery|배송비"),
        _all("shipping|freight|배송비"),
    ),
    Kind(
        "due_date",
        "date",
        _all("due date|payment due|pay by|date due|납부기한|지급기한|만기일"),
        _all("due date|payment due|pay by|due by|due on|due|납부기한|지급기한|만기일|기한"),
    ),
    Kind(
        "birth_date",
        "date",
        _all("birth date|date of birth|birthday|dob|born|생년월일|생일"),
        _all("date of birth|birth date|born|dob|생년월일"),
    ),
    Kind(
        "expiry_date",
        "date",
        _all("expiry date|expiry|expires|expiration date|valid until|valid to|만료일|유효기간"),
        _all("date of expiry|expiry date|expires|valid until|valid thru|만료일|유효기간|까지"),
    ),
    Kind(
        "issue_date",
        "date",
        _all("issue date|issued|date of issue|issued on|발급일|발급일자|발행일"),
        _all("date of issue|issue date|issued on|issued|발급일자|발급일|발행일자|발행일"),
    ),
    Kind(
        "delivery_date",
        "date",
        _all("delivery date|ship date|shipped|배송일|납품일"),
        _all("delivery date|ship date|delivered|납품일자|납품일|배송일"),
    ),
    Kind(
        "date",
        "date",
        _all(
            "date|invoice date|receipt date|transaction date|purchase date|bill date|order date|"
            "document date|day|날짜|일자|거래일|거래일자|결제일|구매일|판매일"
        ),
        _all(
            "invoice date|receipt date|transaction date|bill date|bizdate|bill dt|order date|date|"
            "거래일시|거래일자|거래일|결제일시|결제일|판매일시|판매일|작성일자|작성일|날짜|일자|일시"
        ),
    ),
    Kind(
        "time",
        "time",
        _all("time|transaction time|purchase time|시간|시각|거래시간"),
        _all("time|시간|시각"),
    ),
    Kind(
        "company",
        "text",
        _all(
            "company|company name|vendor|vendor name|seller|seller name|supplier|merchant|"
            "merchant name|store|store name|shop|shop name|business|business name|issuer|"
            "issuer name|from|restaurant|상호|상호명|회사|회사명|업체|업체명|가맹점|가맹점명|"
            "공급자|판매자|매장명|점포명"
        ),
        _all(
            "상호명|상호|가맹점명|가맹점|업체명|회사명|법인명|매장명|점포명|seller|vendor|supplier|merchant"
        ),
    ),
    Kind(
        "customer",
        "text",
        _all(
            "customer|customer name|buyer|buyer name|client|bill to|recipient|"
            "공급받는자|고객|고객명|구매자"
        ),
        _all(
            "bill to|billed to|invoice to|sold to|customer name|customer|buyer|client|"
            "고객명|고객|공급받는자|구매자"
        ),
    ),
    Kind(
        "address",
        "place",
        _all(
            "address|company address|vendor address|seller address|store address|location|"
            "주소|소재지|사업장|사업장주소|매장주소"
        ),
        _all("address|사업장주소|사업장 소재지|사업장소재지|매장주소|소재지|주소|주 소"),
    ),
    Kind(
        "phone",
        "phone",
        _all("phone|phone number|telephone|tel|mobile|contact number|전화|전화번호|연락처|휴대폰"),
        _all("telephone|phone|tel|h/p|mobile|전화번호|전화|연락처|대표전화"),
    ),
    Kind("fax", "phone", _all("fax|fax number|팩스"), _all("fax|팩스")),
    Kind("email", "code", _all("email|e mail|email address|이메일"), _all("e-mail|email|이메일")),
    Kind(
        "website", "code", _all("website|url|web|homepage|홈페이지"), _all("website|web|홈페이지")
    ),
    Kind(
        "registration_number",
        "code",
        _all(
            "registration number|company registration number|business number|"
            "business registration number|company number|사업자등록번호|사업자번호|등록번호"
        ),
        _all(
            "사업자등록번호|사업자번호|등록번호|company reg no|company no|co reg|reg no|roc|"
            "registration no|company registration"
        ),
    ),
    Kind(
        "tax_id",
        "code",
        _all("tax id|tax number|vat number|vat id|gst number|gst id|gst no|납세번호"),
        _all("gst reg no|gst id no|gst id|gst no|vat no|vat reg no|vat id|tax id|tax no|gst reg"),
    ),
    Kind(
        "invoice_number",
        "code",
        _all(
            "invoice number|invoice no|invoice id|receipt number|receipt no|bill number|"
            "document number|number|transaction number|"
            "영수증번호|송장번호|문서번호|승인번호|거래번호|전표번호"
        ),
        _all(
            "invoice number|invoice no|invoice #|tax invoice no|receipt number|receipt no|"
            "receipt #|receipt|inv no|bill no|doc no|document no|check #|cash sales no|"
            "order no|invoice|영수증번호|승인번호|거래번호|전표번호|문서번호|일련번호"
        ),
    ),
    Kind(
        "order_number",
        "code",
        _all("order number|order no|order id|po number|purchase order|주문번호"),
        _all("order number|order no|order #|order id|po number|p.o. number|po no|order|주문번호"),
    ),
    Kind(
        "id_number",
        "code",
        _all(
            "id number|identity number|id no|national id|resident registration number|"
            "resident number|passport number|license number|licence number|card number|"
            "주민등록번호|면허번호|여권번호"
        ),
        _all(
            "주민등록번호|운전면허번호|면허번호|여권번호|외국인등록번호|"
            "identity card no|passport no|licence no|license no|id number|id no|card no"
        ),
    ),
    Kind(
        "account_number",
        "code",
        _all("account number|account no|iban|bank account|계좌번호"),
        _all("iban|account number|account no|계좌번호|입금계좌"),
    ),
    Kind(
        "person",
        "text",
        _all(
            "name|full name|holder|holder name|person|surname|given name|family name|first name|"
            "last name|성명|이름"
        ),
        _all("full name|name|성명|성 명|이름|이 름"),
    ),
    Kind(
        "representative",
        "text",
        _all("representative|owner|ceo|대표자|대표|대표자명"),
        _all("representative|대표자명|대표자|대표이사|대표|성명"),
    ),
    Kind(
        "cashier",
        "text",
        _all("cashier|served by|operator|staff|clerk|계산원|담당자"),
        _all("cashier|served by|server|operator|salesperson|계산원|담당자|담당"),
    ),
    Kind(
        "sex",
        "text",
        _all("sex|gender|성별"),
        _all("sex|gender|성별"),
    ),
    Kind(
        "nationality",
        "text",
        _all("nationality|citizenship|국적"),
        _all("nationality|citizenship|국적"),
    ),
    Kind(
        "payment_method",
        "text",
        _all("payment method|payment mode|paid by|payment type|결제수단|결제방법|지불방법"),
        _all("payment method|payment mode|paid by|결제수단|결제방법|지불방법"),
    ),
    Kind(
        "document_type",
        "text",
        _all("document type|type of document|kind of document|문서종류|신분증종류"),
    ),
    Kind("currency", "currency", _all("currency|currency code|통화|화폐")),
    Kind(
        "items",
        "items",
        _all("items|line items|lines|products|goods|positions|품목|내역|상품|항목|구매내역"),
    ),
)

_BY_NAME = {name: kind for kind in reversed(KINDS) for name in kind.names}


def kind_of(field: Field) -> Kind | None:
    """What the field asks for, by its name, else by its title and description."""
    above = words_of(str(field.path[-2])) if len(field.path) > 1 else ""
    found = _BY_NAME.get(f"{above} {field.words}") or _BY_NAME.get(field.words)
    if found is None:
        words = f" {field.words} "
        inside = [
            (len(name), kind)
            for name, kind in _BY_NAME.items()
            if f" {name} " in words or (_is_hangul(name) and name in field.words)
        ]
        found = max(inside, key=lambda one: one[0], default=(0, None))[1]
    if found is None and field.description:
        said = f" {plain(field.description)} "
        inside = [(said.find(f" {name} "), -len(name), kind) for name, kind in _BY_NAME.items()]
        inside = [one for one in inside if one[0] >= 0 and len(one[2].name) > 2]
        found = min(inside, key=lambda one: one[:2], default=(0, 0, None))[2]
    return found if found is None or _fits(found, field) else None


def labels_of(field: Field, kind: Kind | None) -> tuple[str, ...]:
    """What may be printed beside the field's value, the likeliest first."""
    own = [words_of(field.name)]
    title = str(field.schema.get("title", ""))
    if title:
        own.append(plain(title))
    quoted = re.findall(r"[\"'“(]([^\"'”()]{2,40})[\"'”)]", field.description)
    own += [plain(one) for one in quoted]
    return tuple(dict.fromkeys([*own, *(kind.labels if kind else ())]))


@cache
def plain(text: str) -> str:
    """Lower case, without accents' composition or punctuation, single blanks between words."""
    text = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(re.sub(r"[^\w#/]+|_", " ", text).split())


def _fits(kind: Kind, field: Field) -> bool:
    """Whether the schema's type can hold what the kind is."""
    types = field.types
    if kind.sort == "items":
        return "array" in types
    if kind.sort == "money":
        return bool(types & {"number", "integer", "string"})
    return "string" in types or (kind.sort in ("code", "phone") and "integer" in types)


def _is_hangul(text: str) -> bool:
    return any("가" <= character <= "힣" for character in text)
