from django.db import migrations


class Migration(migrations.Migration):

    dependencies = [
        ("ocr", "0002_layout_and_options"),
    ]

    operations = []
