"""The words of the sample documents; the built-in font has ASCII letters and no others."""

from __future__ import annotations

LIBRARY = "HARBOUR LANE LIBRARY"
LIBRARY_ADDRESS = "14 Harbour Lane, Westerby, telephone 0155 274 310"
PAGE_DATE = "12 March 2025"
PAGE_TITLE = "The reading room reopens in April"
PAGE_SECTIONS = (
    (
        "",
        (
            "After eleven months of building work the reading room on the first floor opens "
            "its doors again on Tuesday, 1 April. Forty desks stand under the restored glass "
            "roof, each with its own lamp and a socket, and the catalogue can now be searched "
            "from every seat.",
        ),
    ),
    (
        "What has changed",
        (
            "The town records from 1780 to 1914 were cleaned, boxed and numbered while the "
            "room was closed. Every box carries a label with a shelf mark such as K-1407, and "
            "the same mark is found in the catalogue. Maps are kept flat in the new cabinets "
            "along the north wall; please ask a member of staff to open them for you.",
            "About nine thousand letters have been scanned so far. Their text can be searched, "
            "but old handwriting is still read with mistakes, so a letter that is not found by "
            "a word may well be found by its date or by its sender.",
        ),
    ),
    (
        "How to request a box",
        (
            "Note the shelf mark and hand in a request slip before 15:30. Up to three boxes "
            "are brought to your desk within twenty minutes. Cameras are welcome as long as "
            "the flash stays off. Pens, food and drinks stay in the lockers by the entrance.",
        ),
    ),
    (
        "Opening hours",
        (
            "Tuesday to Friday from 9:00 to 18:00, Saturday from 10:00 to 14:00. The room is "
            "closed on Sunday, on Monday and on public holidays. Groups of more than six are "
            "asked to write to us two weeks ahead.",
        ),
    ),
)
PAGE_FOOTER = "Harbour Lane Library, Notice 7 of 2025, page 1 of 1"

SHOP = "MILL STREET BAKERY"
SHOP_ADDRESS = ("3 Mill Street, Westerby", "Telephone 0155 274 886")
RECEIPT = ("Receipt 00418", "12.03.2025 08:47")
RECEIPT_ITEMS = (
    ("2 Sourdough loaf", "9.60"),
    ("4 Butter croissant", "8.80"),
    ("1 Apple cake", "14.50"),
    ("3 Cheese roll", "7.35"),
    ("1 Rye bread, sliced", "5.20"),
    ("2 Coffee, large", "7.00"),
)
RECEIPT_SUMS = (("Subtotal", "52.45"), ("Discount 10 %", "-5.25"))
RECEIPT_TOTAL = (("TOTAL EUR", "47.20"),)
RECEIPT_PAID = (("Cash", "50.00"), ("Change", "2.80"))
RECEIPT_THANKS = ("Thank you for your visit", "Open daily from 6:30")

AGREEMENT_TITLE = "Scanning Services Agreement"
AGREEMENT_OPENING = (
    "This agreement is made on 3 February 2025 between Harbour Lane Library, called the "
    "Library, and Fennel & Brook Imaging, called the Contractor."
)
AGREEMENT_PAGES = (
    (
        (
            "1. Subject",
            "The Contractor scans the bound newspapers of the Library for the years 1891 to "
            "1926, about 38,000 pages, and delivers the images together with their text.",
        ),
        (
            "2. Collection and return",
            "Volumes are collected every second Monday in sealed crates. A list of the volumes "
            "is signed by both parties when a crate leaves the building and again when it "
            "returns. No volume stays with the Contractor for longer than 21 days.",
        ),
        (
            "3. Quality of the images",
            "Pages are scanned at 400 dots per inch in gray. An image is accepted when the "
            "whole page is visible, the print is sharp to the edge, and the page is turned by "
            "no more than one degree. Images that fail are made again at no charge.",
        ),
        (
            "4. Quality of the text",
            "At least 98 of 100 characters are correct, measured on a sample of 200 pages "
            "chosen by the Library.",
        ),
    ),
    (
        (
            "5. Price and payment",
            "The price is 0.14 euro for each accepted page. The Contractor sends one invoice "
            "a month, payable within 30 days.",
        ),
        (
            "6. Care of the originals",
            "Volumes are opened on a cradle at no more than 110 degrees and are never "
            "unbound. Damage is reported within one working day.",
        ),
        (
            "7. Rights",
            "Images and text belong to the Library. The Contractor keeps no copy once the "
            "Library has confirmed that a delivery is complete.",
        ),
        (
            "8. Term",
            "The agreement ends on 31 January 2026. Either party may end it earlier with "
            "six weeks of notice in writing.",
        ),
    ),
)
AGREEMENT_SIGNED = ("For the Library: Ada Whitlock", "For the Contractor: Jonas Brook")

SELLER = "Fennel & Brook Imaging"
INVOICE_HEAD = (
    ("27 Quarry Road", "Invoice number 2025-0319"),
    ("Westerby", "Date 31 March 2025"),
    ("Telephone 0155 274 402", "Due 30 April 2025"),
)
INVOICE_BUYER = ("Bill to:", "Harbour Lane Library", "14 Harbour Lane", "Westerby")
INVOICE_ROWS = (
    ("No.", "Description", "Quantity", "Unit price", "Amount"),
    ("1", "Newspaper pages scanned, gray", "3,150", "0.14", "441.00"),
    ("2", "Maps scanned, colour, large format", "24", "6.50", "156.00"),
    ("3", "Glass negatives, cleaned and scanned", "60", "3.20", "192.00"),
    ("4", "Collection and return of crates", "2", "45.00", "90.00"),
    ("5", "Storage, encrypted disk 4 TB", "1", "129.00", "129.00"),
    ("6", "Correction of text, hours", "8", "32.00", "256.00"),
)
INVOICE_SUMS = (
    ("Net amount EUR", "1,264.00"),
    ("Tax 20 %", "252.80"),
    ("Total due EUR", "1,516.80"),
)
INVOICE_TERMS = (
    "Please pay within 30 days and give the invoice number with your payment. Questions "
    "about this invoice are answered by Mira Fennel on weekdays from 9:00 to 16:00."
)

KOREAN_LIBRARY = "바닷길 시립도서관"
KOREAN_ADDRESS = "서해시 바닷길 14, 전화 0155-274-310"
KOREAN_DATE = "2025년 3월 12일"
KOREAN_TITLE = "기록 열람실 재개관 안내"
KOREAN_SECTIONS = (
    (
        "",
        (
            "열한 달 동안의 공사를 마치고 2층 기록 열람실이 4월 1일 화요일에 다시 문을 엽니다. "
            "새로 고친 유리 지붕 아래에 마흔 개의 좌석이 마련되었으며, 모든 자리에서 목록을 "
            "검색할 수 있습니다.",
        ),
    ),
    (
        "달라진 점",
        (
            "공사 기간에 1780년부터 1914년까지의 마을 기록을 정리하여 번호가 붙은 상자에 "
            "담았습니다. 상자마다 붙은 청구 기호는 목록에 적힌 기호와 같습니다. 지도는 북쪽 "
            "벽의 새 보관장에 펼쳐 두었으니 직원에게 말씀해 주시기 바랍니다.",
            "지금까지 편지 구천여 통을 스캔하였습니다. 본문을 검색할 수 있지만 옛 손글씨는 "
            "잘못 읽히는 경우가 있으므로, 낱말로 찾지 못한 편지는 날짜나 보낸 사람으로 찾아 "
            "보시기 바랍니다.",
        ),
    ),
    (
        "이용 방법",
        (
            "청구 기호를 적은 신청서를 오후 3시 30분까지 내 주십시오. 한 번에 상자 세 개까지 "
            "20분 안에 자리로 가져다 드립니다. 사진은 플래시를 끄고 찍을 수 있으며, 음식과 "
            "음료는 입구의 사물함에 보관해 주십시오.",
        ),
    ),
    (
        "이용 시간",
        (
            "화요일부터 금요일까지는 오전 9시부터 오후 6시까지, 토요일은 오전 10시부터 오후 "
            "2시까지 이용할 수 있습니다. 일요일과 월요일, 공휴일에는 쉽니다.",
        ),
    ),
)

WORDS = (
    *("amber", "basket", "candle", "dinner", "engine", "forest", "garden", "harvest", "island"),
    *("jacket", "kitchen", "lantern", "market", "needle", "orange", "pencil", "quarter", "river"),
    *("saddle", "timber", "uncle", "valley", "window", "yellow", "bridge", "copper", "desert"),
    *("feather", "hammer", "letter", "mirror", "number", "pepper", "rocket", "silver", "tunnel"),
)
