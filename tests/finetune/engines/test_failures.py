"""What goes wrong is told with what to do about it."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from finetune.engines import dpo, fitting, language, prepared, sft, trainers
from finetune.engines.base import (
    EVENTS,
    Event,
    Failed,
    Metrics,
    TrainSpec,
    event_read,
)
from finetune.engines.failures import failure
from finetune.engines.process import choose_device, trainer_of
from finetune.engines.telling import FileTeller
from ocr.engines.torch_library import import_torch
from tests.finetune.engines.runs import SLOW, Told, failed, rotations, run, spec
from tests.finetune.engines.test_dpo import pairs

pytestmark = pytest.mark.timeout(SLOW)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder that takes a few hundred KB: a file system of its own, or a limit on files."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=700k", "tmpfs", str(folder)]
    if os.geteuid() == 0 and subprocess.run(mount, capture_output=True).returncode == 0:
        yield folder
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
        return
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, limits[1]))
    yield folder
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def told(folder: Path) -> list[Event]:
    return [event_read(line) for line in (folder / EVENTS).read_text().splitlines()]


def test_a_full_disk_is_told_of_on_that_disk(small_disk: Path, random_model: Path) -> None:
    one = spec(small_disk, random_model, rotations()[:16], epochs=50, save_steps=2)
    teller = FileTeller(small_disk)
    with pytest.raises(Exception) as caught:
        trainer_of(one.method)(one, teller)
    teller.tell(failure(caught.value, one))
    last = told(small_disk)[-1]
    assert isinstance(last, Failed)
    assert last.code == "disk_full", last
    assert str(small_disk) in last.message
    assert "keep_checkpoints" in last.message
    # What was half written has made room.
    checkpoints = (small_disk / "checkpoints").glob("checkpoint-*")
    assert all((folder / "complete.json").exists() for folder in checkpoints)


def test_a_loss_that_is_no_number_ends_it_at_once(tmp_path: Path, random_model: Path) -> None:
    torch = import_torch()
    base = tmp_path / "base"
    shutil.copytree(random_model, base)
    safetensors = __import__("safetensors.torch").torch
    weights = safetensors.load_file(base / "model.safetensors")
    weights["model.norm.weight"][0] = torch.inf
    safetensors.save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    event = failed(spec(tmp_path, base, rotations()[:16], epochs=9, log_steps=100))
    assert event.code == "diverged"
    assert "step 1:" in event.message
    assert "learning_rate" in event.message
    assert "0.0002" in event.message


def test_out_of_memory_names_what_to_lower(tmp_path: Path, random_model: Path) -> None:
    torch = import_torch()
    one = spec(tmp_path, random_model, [], adapter="full", max_length=2048, batch_size=4)
    try:
        torch.empty(2**60, dtype=torch.uint8)
    except RuntimeError as error:
        event = failure(error, one)
    assert event.code == "out_of_memory"
    for words in (
        "'batch_size' (now 4",
        "'max_length' (now 2048)",
        "gradient_checkpointing",
        "full",
    ):
        assert words in event.message
    assert event.traceback
    assert failure(MemoryError(), one).code == "out_of_memory"
    assert failure(torch.OutOfMemoryError("CUDA out of memory."), one).code == "out_of_memory"
    least = spec(
        tmp_path, random_model, [], batch_size=1, gradient_checkpointing=True, adapter="lora"
    )
    assert "batch_size" not in failure(MemoryError(), least).message
    assert "now off" not in failure(MemoryError(), least).message


def test_numbers_of_a_full_disk_are_known(tmp_path: Path, random_model: Path) -> None:
    one = spec(tmp_path, random_model, [])
    assert failure(OSError(errno.ENOSPC, "No space left on device"), one).code == "disk_full"
    assert failure(OSError(errno.EACCES, "Permission denied"), one).code == "crashed"


def test_anything_else_is_a_crash_with_its_traceback(tmp_path: Path, random_model: Path) -> None:
    one = spec(tmp_path, random_model, [])
    try:
        one.options["nothing"]
    except KeyError as error:
        event = failure(error, one)
    assert event.code == "crashed"
    assert "test_anything_else" in event.traceback


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_base_that_lacks_a_file_is_named(tmp_path: Path, random_model: Path, name: str) -> None:
    base = tmp_path / "base"
    shutil.copytree(random_model, base)
    (base / name).unlink()
    event = failed(spec(tmp_path, base, rotations()[:8], max_steps=1))
    assert event.code == "bad_model"
    assert name in event.message


def test_what_this_machine_can_not_do_is_said(tmp_path: Path, random_model: Path) -> None:
    rows = rotations()[:8]
    event = failed(spec(tmp_path, random_model, rows, adapter="qlora"))
    assert (event.code, "lora" in event.message) == ("invalid_option", True)
    assert failed(spec(tmp_path, random_model, rows, dtype="float16")).code == "invalid_option"
    if not import_torch().cuda.is_available():
        assert failed(spec(tmp_path, random_model, rows, device="cuda")).code == "no_device"


def test_rows_of_another_kind_are_refused(tmp_path: Path, random_model: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(random_model, base)
    (base / "chat_template.jinja").unlink()
    event = failed(spec(tmp_path, base, rotations()[:8], max_steps=1))
    assert event.code == "bad_model"
    assert "chat template" in event.message


def test_lines_are_whole_and_only_the_main_process_tells(tmp_path: Path) -> None:
    main, other = FileTeller(tmp_path), FileTeller(tmp_path, main=False)
    for step in range(3):
        main.tell(Metrics(step=step, epoch=0.0, values={"loss": 1.0}))
        other.tell(Metrics(step=step, epoch=0.0, values={"loss": 2.0}))
    other.tell(Failed(code="crashed", message="of another process"))
    events = told(tmp_path)
    assert [getattr(event, "step", None) for event in events] == [0, 1, 2, None]
    assert isinstance(events[-1], Failed)
    assert not main.asked_to_stop()
    (tmp_path / "stop").touch()
    assert main.asked_to_stop()


@pytest.mark.parametrize(
    ("device", "seen", "alone", "expected"),
    [
        ("cpu", "0,1", True, ""),
        ("cuda:1", "4,7", True, "7"),
        ("cuda:1", "", True, "1"),
        ("auto", "3,5", True, "3"),
        ("cuda", "3,5", False, "3,5"),
        ("cuda:1,cuda:2", "3,5,6,7", False, "5,6"),
        ("cuda:1,cuda:2", "", False, "1,2"),
    ],
)
def test_one_process_sees_one_device(
    monkeypatch: pytest.MonkeyPatch, device: str, seen: str, alone: bool, expected: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", seen)
    choose_device(device, alone=alone)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == expected


@pytest.mark.parametrize(
    "text",
    [
        "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer",
        "[../third_party/gloo/gloo/transport/tcp/unbound_buffer.cc:81] Timed out waiting",
    ],
)
def test_a_process_that_is_gone_is_told_from_a_fault(tmp_path: Path, text: str) -> None:
    one = spec(tmp_path, Path("base"), rotations()[:8])
    gone = failure(RuntimeError(text), one)
    assert (gone.code, text in gone.message) == ("peer_lost", True)
    assert "GLOO_SOCKET_IFNAME" in gone.message
    distributed = import_torch().distributed
    assert failure(distributed.DistBackendError("NCCL error"), one).code == "peer_lost"
    assert failure(RuntimeError("shapes differ"), one).code == "crashed"


def test_a_result_is_begun_anew(tmp_path: Path, random_model: Path) -> None:
    one: TrainSpec = spec(tmp_path, random_model, rotations()[:8], max_steps=1)
    (tmp_path / "result").mkdir()
    (tmp_path / "result" / "old").write_text("of an attempt that was cut off")
    run(one)
    assert not (tmp_path / "result" / "old").exists()


def test_a_gpu_is_given_as_many_rows_as_fit(
    tmp_path: Path, random_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tried with real steps, on the CPU; that more than four don't fit is pretended."""
    torch = import_torch()
    make = fitting.longest

    def longest(trainer: object, rows: object, method: object, count: int) -> object:
        if count > 4:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return make(trainer, rows, method, count)

    monkeypatch.setattr(fitting, "longest", longest)
    for method, name in ((sft.METHOD, "sft"), (dpo.METHOD, "dpo")):
        lines = rotations()[:8] if name == "sft" else pairs(8)
        one = spec(tmp_path / name, random_model, lines, method=name, batch_size="auto")
        config, told = language.config_of(one), Told()
        tokenizer = language.tokenizer_of(one)
        rows = prepared.prepare(one, config, tokenizer, told, method.form)
        place = language.Place("cuda", "float32")
        found = fitting.batch_of(one, config, place, rows, method, told)
        assert found == trainers.Batch(4, 4)
