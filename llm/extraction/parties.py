"""Who wrote a paper, and where they are: names of companies and addresses."""

from __future__ import annotations

import re

from llm.extraction.rows import Row
from llm.extraction.sheet import Hit, Sheet, up_to_label

# So many rows from the top make the head of a receipt.
HEAD = 14
LONGEST_ADDRESS = 6

_FORM = re.compile(
    r"""\b(sdn\.?\s*bhd|s/b|bhd|berhad|ltd|limited|inc|llc|llp|plc|pte|gmbh|ag|corp|corporation|
    co\.?,?\s*ltd|s\.?a\.?r\.?l|b\.?v|enterprise|trading|holdings|company)\b\.?
    |주식회사|유한회사|\(주\)|㈜|\(유\)""",
    re.IGNORECASE | re.VERBOSE,
)
_TRADE = re.compile(
    r"""\b(restaurant|restoran|cafe|café|bistro|bakery|bakeries|mart|market|supermarket|store|shop|
    kedai|pasar|pharmacy|farmasi|hotel|kitchen|foods?|motors?|stationery|station|books?|hardware|
    electrical|seafood|handicraft|library|hospital|clinic|services?|group|packaging|international|
    distributors?|marketing|industries|decor?|gift)\b
    |마트|식당|카페|커피|약국|병원|슈퍼|상회|상사|백화점|서점|편의점|문구|베이커리|식품|유통""",
    re.IGNORECASE | re.VERBOSE,
)
_PLACE = re.compile(
    r"""\b(jalan|jln|lorong|taman|tmn|lot|bandar|kawasan|seksyen|persiaran|lebuh|kampung|kg|batu|
    wisma|plaza|mall|bangunan|menara|street|st|road|rd|avenue|ave|lane|drive|boulevard|blvd|floor|
    suite|level|unit|block|building|square|highway|way|city|selangor|johor|penang|perak|melaka|
    kuala\s*lumpur|k\.?l\.?|malaysia|petaling|darul|no\.?\s?\d+\w?)\b
    |^no\s?\.|^\d[\w-]{0,5}(\s?&\s?\w+)?,\s?\w
    |(특별|광역|자치)?시\s|[가-힣]{1,6}(도|시|군|구|읍|면|동|리|로|길)\s*\d|\d+\s*(번지|층|호|번길)
    |[가-힣]{2,}(시|도)\s+[가-힣]+(구|군|시)\s""",
    re.IGNORECASE | re.VERBOSE,
)
_POSTCODE = re.compile(r"(?<![\d-])\d{5}(?![\d-])(?!\s*[.,]?\d)")
_STOP = re.compile(
    r"""\b(tel|telephone|phone|fax|h/?p|mobile|gst|g\.s\.t|sst|vat|reg|roc|co\.?\s?(reg|no)|
    company\s*(no|reg)|invoice|involce|inv|receipt|bill|date|time|cashier|cashler|table|order|check|guest|
    tax|doc|document|website|www|email|e-mail|served|terminal|member|site|cash|qty|item|price|
    amount|description|server|licen[cs]e|passport|pax|staff|operator|trn|pos)\b
    |taxinvoice|taxinv|total|합\s*계|공\s*급\s*가|세\s*액|부\s*가\s*세|전화|사업자|대표|등록번호|영수증|날짜|일시|거래|승인|품명|상품|@""",
    re.IGNORECASE | re.VERBOSE,
)
# (519537-X), 789417-W, Co. No. in brackets: beside a name, never part of one.
_CODE = re.compile(
    r"[\s(\[{]*(?:(?:co\.?|company|roc|reg)[\w\s.:]*)?\(?\b\d[\dA-Z]{3,}\s?[-·.–]\s?\w{1,2}\b\)?.*$",  # noqa: RUF001
    re.IGNORECASE,
)
_KR_NUMBER = re.compile(r"\s*\d{3}-\d{2}-\d{5}.*$")


def find_company(sheet: Sheet, labels: tuple[str, ...]) -> Hit | None:
    """What follows a label that says so, else the likeliest part of the head."""
    for labelled in sheet.labelled(labels):
        beside = cleaned_name(up_to_label(labelled.beside.text))
        if labelled.row.number < 2 * HEAD and _is_name(beside):
            return Hit(beside, labelled.beside.lines[:1])
    found = _best_part(sheet)
    if found is None:
        return None
    number, part, name = found
    if _FORM.fullmatch(name.strip(" .()")) and number:
        above = sheet.rows[number - 1]
        return Hit(f"{cleaned_name(above.text)} {name}", (*above.lines, *part.lines))
    return Hit(name, part.lines)


def find_address(sheet: Sheet, labels: tuple[str, ...]) -> Hit | None:
    """Beside a label, else below the name of the company, else wherever such rows first come."""
    for labelled in sheet.labelled(labels):
        text = labelled.beside.text
        if len(text) > 6 and _is_place(text):
            return _joined(sheet, sheet.rows.index(labelled.row), labelled.beside)
    company = _best_part(sheet)
    first = company[0] + 1 if company else 0
    for start in (first, 0):
        for number in range(start, min(len(sheet.rows), start + HEAD)):
            if company and number == company[0]:
                continue
            for part in _parts(sheet.rows[number]):
                if _is_place(part.text) and not _stops(part.text):
                    return _joined(sheet, number, Hit(_tidy(part.text), part.lines))
    return None


def cleaned_name(text: str) -> str:
    """A company's name without its registration number, or another code behind it."""
    text = _KR_NUMBER.sub("", _CODE.sub("", text))
    text = re.sub(r"\s+[A-Z]{0,2}\d{4,}\W*$", "", text)
    return re.sub(r"\s*\((?:Co|Reg|ROC)[^)]*\)?$", "", text, flags=re.I).strip(" -:*,|")


def _best_part(sheet: Sheet) -> tuple[int, Row, str] | None:
    """(number of the row, the part of it, the name) that most looks like a company's."""
    best: tuple[float, int, Row, str] | None = None
    for number, row in enumerate(sheet.rows[:HEAD]):
        if number and row.page != sheet.rows[0].page:
            break
        for part in row.segments():
            name = cleaned_name(part.text)
            if _is_name(name):
                score = _name_score(sheet, number, part, name)
                if best is None or score > best[0]:
                    best = (score, number, part, name)
    return best[1:] if best else None


def _name_score(sheet: Sheet, number: int, row: Row, name: str) -> float:
    score = -0.45 * number
    if _FORM.search(name):
        score += 6
    if _TRADE.search(name):
        score += 2.5
    if _stops(name):
        score -= 5
    if _is_place(name) and not _FORM.search(name):
        score -= 3
    letters = [letter for letter in name if letter.isalpha()]
    if letters and all(letter.islower() or letter.isupper() for letter in letters):
        # A note in small letters above the head is not the shop's.
        score += 1 if letters[0].isupper() else -2
    if len(letters) < 5:
        score -= 3
    height = max(line.box[3] - line.box[1] for line in row.lines)
    score += min(1.5, max(0.0, height / sheet.height - 1))
    after = sheet.rows[number + 1 : number + 3]
    if any(_is_place(one.text) or _CODE.match(one.text) for one in after):
        score += 1.5
    return score


def _is_name(text: str) -> bool:
    letters = sum(letter.isalpha() for letter in text)
    digits = sum(letter.isdigit() for letter in text)
    return letters >= 3 and letters > 2 * digits and len(text) <= 70 and ": " not in text


def _is_place(text: str) -> bool:
    return bool(_PLACE.search(text) or _POSTCODE.search(text))


def _stops(text: str) -> bool:
    return bool(_STOP.search(text)) or bool(re.match(r"^\W*\d[\d\s-]{6,}\W*$", text))


def _joined(sheet: Sheet, number: int, first: Hit) -> Hit:
    """The address's rows from `first` on, up to one that says something else."""
    texts, lines = [first.text], list(first.lines)
    left = min(line.box[0] for line in lines)
    right = max(line.box[2] for line in lines)
    for row in sheet.rows[number + 1 : number + LONGEST_ADDRESS]:
        part = next((one for one in _parts(row) if one.box[0] < right and one.box[2] > left), None)
        if part is None:
            break
        text = part.text
        letters = sum(letter.isalpha() for letter in text)
        codes = re.fullmatch(r"\W*\d[\dA-Z]*\s?-\s?[A-Z]\W*", text)
        if row.page != first.lines[0].page or _stops(text) or codes or letters < 2:
            break
        if re.match(r"^[*\-=_ ]{1,}\w.*[*\-=_]$", text) or sheet.amounts(text):
            break
        goes_on = _is_place(text) or text.startswith("(") or texts[-1].rstrip().endswith(",")
        if not (goes_on or _place_name(text)):
            break
        texts.append(_tidy(text))
        lines.extend(part.lines)
    return Hit(" ".join(texts), tuple(lines))


def _parts(row: Row) -> list[Row]:
    """The whole row, unless something else stands on it beside an address."""
    return row.segments() if _stops(row.text) else [row]


def _place_name(text: str) -> bool:
    """A short row of words alone: the town, the state."""
    return len(text) <= 40 and not re.search(r"[:=]|\d{6,}", text)


def _tidy(text: str) -> str:
    return text.strip(" *|")
