import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ("ocr", "0002_layout_and_options"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='PageReview',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('lines', models.JSONField(default=list)),
                ('blocks', models.JSONField(default=list)),
                ('text', models.TextField(blank=True)),
                ('version', models.PositiveIntegerField(default=0)),
                ('order_version', models.PositiveIntegerField(default=0, help_text='the version that last changed which lines there are, or their order')),
                ('status', models.CharField(choices=[('open', 'Open'), ('accepted', 'Accepted'), ('flagged', 'Flagged')], default='open', max_length=10)),
                ('note', models.TextField(blank=True, help_text='why it was flagged')),
                ('claimed_until', models.DateTimeField(blank=True, null=True)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('updated_at', models.DateTimeField(auto_now=True)),
                ('accepted_at', models.DateTimeField(blank=True, null=True)),
                ('claimed_by', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='claimed_reviews', to=settings.AUTH_USER_MODEL)),
                ('result', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, related_name='review', to='ocr.pageresult')),
                ('reviewer', models.ForeignKey(blank=True, help_text='who changed, accepted or flagged it last', null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='reviews', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'ordering': ['-updated_at'],
                'permissions': [('review_any', "Can review everybody's pages")],
            },
        ),
        migrations.CreateModel(
            name='Correction',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('action', models.CharField(choices=[('edit', 'Edit'), ('add', 'Add'), ('remove', 'Remove'), ('merge', 'Merge'), ('split', 'Split'), ('box', 'Box'), ('order', 'Order')], max_length=10)),
                ('line_id', models.CharField(blank=True, max_length=20)),
                ('position', models.PositiveIntegerField(default=0, help_text='of the line in the reading order, from 0')),
                ('version', models.PositiveIntegerField()),
                ('before', models.TextField(blank=True)),
                ('after', models.TextField(blank=True)),
                ('before_box', models.JSONField(blank=True, null=True)),
                ('box', models.JSONField(blank=True, null=True)),
                ('lines_before', models.JSONField(default=list)),
                ('lines_after', models.JSONField(default=list)),
                ('page_before', models.JSONField(default=dict)),
                ('created_at', models.DateTimeField(auto_now_add=True, db_index=True)),
                ('undoes', models.OneToOneField(blank=True, null=True, on_delete=django.db.models.deletion.CASCADE, related_name='undone_by', to='ocr.correction')),
                ('user', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='corrections', to=settings.AUTH_USER_MODEL)),
                ('review', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='corrections', to='ocr.pagereview')),
            ],
            options={
                'ordering': ['review', 'version'],
            },
        ),
        migrations.AddIndex(
            model_name='pagereview',
            index=models.Index(fields=['status', 'accepted_at'], name='review_status_accepted'),
        ),
        migrations.AddConstraint(
            model_name='correction',
            constraint=models.UniqueConstraint(fields=('review', 'version'), name='correction_once_a_version'),
        ),
        migrations.CreateModel(
            name='PageScore',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('engine', models.CharField(max_length=50)),
                ('language', models.CharField(max_length=100)),
                ('model_version', models.CharField(blank=True, max_length=200)),
                ('read_at', models.DateTimeField(db_index=True, help_text='when the engine read the page')),
                ('errors', models.PositiveIntegerField()),
                ('characters', models.PositiveIntegerField()),
                ('word_errors', models.PositiveIntegerField()),
                ('words', models.PositiveIntegerField()),
                ('words_read', models.PositiveIntegerField()),
                ('words_matched', models.PositiveIntegerField()),
                ('scored_at', models.DateTimeField(auto_now=True)),
                ('result', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, related_name='score', to='ocr.pageresult')),
                ('review', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='scores', to='ocr.pagereview')),
            ],
            options={
                'verbose_name_plural': 'quality',
                'ordering': ['-read_at'],
            },
        ),
    ]
