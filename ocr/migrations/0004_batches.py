import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ("mlops", "0002_jobs_together"),
        ("ocr", "0003_review"),
    ]

    operations = [
        migrations.CreateModel(
            name='OcrBatch',
            fields=[
                ('job_ptr', models.OneToOneField(auto_created=True, on_delete=django.db.models.deletion.CASCADE, parent_link=True, primary_key=True, serialize=False, to='mlops.job')),
                ('engine', models.CharField(default='auto', max_length=50)),
                ('language', models.CharField(default='auto', max_length=100)),
                ('min_confidence', models.FloatField(help_text='lines below it are flagged, never dropped')),
                ('dpi', models.PositiveIntegerField(help_text='at which PDF pages are drawn')),
                ('page_range', models.CharField(blank=True, help_text='1-3,7; empty for all', max_length=200)),
                ('text_layer', models.CharField(choices=[('use', 'use where it is good'), ('ignore', 'read every page as an image')], default='use', max_length=10)),
                ('rotate', models.BooleanField(default=True, help_text='put turned pages upright')),
                ('force', models.BooleanField(default=False, help_text='read again what has been read in just this way before')),
                ('name', models.CharField(max_length=200)),
                ('prefix', models.CharField(blank=True, help_text='of the storage: inbox/2026/', max_length=500)),
            ],
            options={
                'verbose_name': 'OCR batch',
                'verbose_name_plural': 'OCR batches',
            },
            bases=('mlops.job', models.Model),
        ),
        migrations.AddField(
            model_name='ocrjob',
            name='force',
            field=models.BooleanField(default=False, help_text='read again what has been read in just this way before'),
        ),
        migrations.AddField(
            model_name='ocrjob',
            name='reading_key',
            field=models.CharField(blank=True, db_index=True, help_text="digest of the document's content and of how it is read", max_length=64),
        ),
        migrations.AddField(
            model_name='ocrjob',
            name='reused_from',
            field=models.ForeignKey(blank=True, help_text='the earlier job whose pages were taken over', null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to='ocr.ocrjob'),
        ),
        migrations.CreateModel(
            name='BatchItem',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=500)),
                ('path', models.CharField(blank=True, max_length=1000)),
                ('error_code', models.CharField(blank=True, max_length=100)),
                ('error', models.TextField(blank=True)),
                ('document', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to='ocr.document')),
                ('job', models.OneToOneField(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='batch_item', to='ocr.ocrjob')),
                ('batch', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='items', to='ocr.ocrbatch')),
            ],
            options={
                'ordering': ['batch', 'pk'],
                'constraints': [models.UniqueConstraint(condition=models.Q(('path', ''), _negated=True), fields=('batch', 'path'), name='batch_item_once_a_batch_and_path')],
            },
        ),
        migrations.CreateModel(
            name='PageClaim',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('worker', models.CharField(max_length=200)),
                ('until', models.DateTimeField()),
                ('job', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='claims', to='ocr.ocrjob')),
                ('page', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='ocr.page')),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('job', 'page'), name='claim_once_a_job_and_page')],
            },
        ),
        migrations.CreateModel(
            name='WatchedFile',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('place', models.CharField(help_text='the folder or prefix that is watched', max_length=500)),
                ('name', models.CharField(help_text='path below it', max_length=500)),
                ('sha256', models.CharField(max_length=64)),
                ('signature', models.CharField(help_text='size and time of last change', max_length=100)),
                ('settings_key', models.CharField(help_text='digest of how it is to be read', max_length=64)),
                ('status', models.CharField(choices=[('waiting', 'Waiting'), ('done', 'Done'), ('failed', 'Failed')], default='waiting', max_length=10)),
                ('error', models.TextField(blank=True)),
                ('seen_at', models.DateTimeField(auto_now_add=True)),
                ('ended_at', models.DateTimeField(blank=True, null=True)),
                ('job', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to='ocr.ocrjob')),
            ],
            options={
                'ordering': ['-seen_at'],
                'constraints': [models.UniqueConstraint(fields=('place', 'name', 'sha256', 'settings_key'), name='watched_once_a_content')],
            },
        ),
    ]
