"""The watched folder: taken up once, when it has settled, and written out whole."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.core.management import CommandError, call_command

from mlops.models import Job
from ocr.models import Document, OcrJob, WatchedFile
from ocr.places import place
from ocr.tasks import extract_text
from ocr.watching import Watcher, WatchOptions

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("fake_engines")]

AT_ONCE = WatchOptions(formats=("txt", "json"), language="en", settle=0)


def work() -> None:
    while job := Job.objects.filter(status=Job.Status.QUEUED).first():
        extract_text(str(job.pk))


@pytest.fixture
def folder(tmp_path: Path, png) -> Path:
    inbox = tmp_path / "inbox"
    (inbox / "deep").mkdir(parents=True)
    (inbox / "a.png").write_bytes(png(70))
    (inbox / "deep" / "a.tiff").write_bytes(png(71, form="TIFF", pages=2))
    (inbox / ".hidden.png").write_bytes(png(72))
    (inbox / "notes.csv").write_text("no document")
    return inbox


def watcher(folder: Path, options: WatchOptions = AT_ONCE, **more: object) -> Watcher:
    return Watcher(place(str(folder)), place(str(folder.parent / "out")), options, **more)


def below(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*"))


def test_what_comes_is_read_and_written_out(folder: Path, png) -> None:
    out = folder.parent / "out"
    watch = watcher(folder)
    assert watch.look() == 0 and watch.waiting() == 2
    work()
    assert watch.finish() == 2 and watch.waiting() == 0
    written = ["a.png.json", "a.png.txt", "deep/a.tiff.json", "deep/a.tiff.txt"]
    assert below(out) == written
    assert (out / "deep/a.tiff.txt").read_text().split("\n\f")[1].startswith("width 72")
    # The files stay where they are, and are not read again.
    assert watch.look() == 0 and watch.waiting() == 0

    (folder / "later.png").write_bytes(png(73))
    watch.look()
    work()
    watch.finish()
    assert "later.png.txt" in below(out)


def test_a_restart_does_nothing_twice(folder: Path) -> None:
    first = watcher(folder)
    first.look()
    assert OcrJob.objects.count() == 2
    # Stopped before the jobs ended: the next one goes on with them.
    second = watcher(folder)
    second.look()
    work()
    assert second.finish() == 2
    os.utime(folder / "a.png")
    third = watcher(folder)
    third.look()
    assert OcrJob.objects.count() == 2 and third.waiting() == 0
    assert WatchedFile.objects.filter(status="done").count() == 2


def test_changed_content_is_read_anew(folder: Path, png) -> None:
    watch = watcher(folder)
    watch.look()
    work()
    watch.finish()
    (folder / "a.png").write_bytes(png(99))
    watch.look()
    work()
    watch.finish()
    assert (folder.parent / "out/a.png.txt").read_text().startswith("width 99")


def test_file_that_is_still_written_waits(folder: Path, png) -> None:
    options = WatchOptions(formats=("txt",), language="en", settle=0.2)
    watch = watcher(folder, options)
    assert watch.look() == 2 and watch.waiting() == 0
    with (folder / "a.png").open("ab") as file:
        file.write(b"more")
    while watch.look() == 2:
        (folder / "a.png").write_bytes(png(70 + watch.waiting()))
    names = set(WatchedFile.objects.values_list("name", flat=True))
    assert names == {"deep/a.tiff"}
    while watch.look():
        pass
    assert watch.waiting() == 2


def test_failures_are_listed_with_their_reason(folder: Path, png) -> None:
    out = folder.parent / "out"
    (folder / "bad.png").write_bytes(b"no image at all")
    watch = watcher(folder)
    watch.look()
    lost = Document.objects.get(name="a.png")
    lost.file.storage.delete(lost.file.name)
    work()
    watch.finish()
    assert (watch.counts.done, watch.counts.failed) == (1, 2)
    assert "gone from the storage" in (out / "failed/a.png.txt").read_text()
    assert (out / "failed/bad.png.txt").read_text().strip()
    assert not (out / "a.png.txt").exists()
    # Mended, it is read, and the reason goes.
    (folder / "bad.png").write_bytes(png(74))
    watch.look()
    work()
    watch.finish()
    assert (out / "bad.png.txt").exists() and not (out / "failed/bad.png.txt").exists()


def test_read_files_are_put_away(folder: Path) -> None:
    done = folder.parent / "done"
    content = (folder / "deep/a.tiff").read_bytes()
    watch = watcher(folder, done=place(str(done)))
    watch.look()
    assert (folder / "a.png").exists()
    work()
    watch.finish()
    assert below(done) == ["a.png", "deep/a.tiff"]
    assert (done / "deep/a.tiff").read_bytes() == content
    assert below(folder) == [".hidden.png", "notes.csv"]


def test_the_queue_is_not_flooded(folder: Path) -> None:
    watch = watcher(folder, WatchOptions(formats=("txt",), language="en", settle=0, at_once=1))
    assert watch.look() == 1 and watch.waiting() == 1
    work()
    watch.finish()
    watch.look()
    assert OcrJob.objects.count() == 2


def test_prefix_of_the_storage(png, tmp_path: Path) -> None:
    name = default_storage.save("watched/in/b.png", ContentFile(png(75)))
    try:
        watch = Watcher(place("storage:watched/in"), place("storage:watched/out/"), AT_ONCE)
        for _ in range(2):
            watch.look()
            work()
            watch.finish()
        with default_storage.open("watched/out/b.png.txt") as file:
            assert file.read().startswith(b"width 75")
        assert default_storage.listdir("watched/out")[1] == ["b.png.json", "b.png.txt"]
    finally:
        for path in (name, "watched/out/b.png.txt", "watched/out/b.png.json"):
            default_storage.delete(path)


def test_command_ends_with_what_there_is(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "bad.png").write_bytes(b"no image")
    told = io.StringIO()
    options = ["--out", str(tmp_path / "out"), "--once", "--settle", "0"]
    with pytest.raises(CommandError) as failed:
        call_command("ocr_watch", str(tmp_path / "in"), *options, stderr=told)
    assert failed.value.returncode == 1
    assert "0 read, 1 failed" in told.getvalue() and "No worker" in told.getvalue()


@pytest.mark.parametrize(
    "options",
    [
        ["--out", "{}/out"],
        ["--out", "{}/../o", "--language", "klingon"],
        ["--out", "{}/../o", "--owner", "nobody"],
    ],
)
def test_bad_arguments_are_said_at_once(options: list[str], tmp_path: Path) -> None:
    inside = tmp_path / "in"
    inside.mkdir()
    filled = [option.format(inside) for option in options]
    with pytest.raises(CommandError) as refused:
        call_command("ocr_watch", str(inside), *filled, "--once")
    assert refused.value.returncode == 2
