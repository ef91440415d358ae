"""Values out of the text of documents: engines and what they share. Pure: no Django, no models.

schema -> fields; pages' lines -> rows -> engine (rules | model) -> values -> evidence
"""
