from django.db import migrations


class Migration(migrations.Migration):

    dependencies = [
        ("ocr", "0003_review"),
    ]

    operations = []
