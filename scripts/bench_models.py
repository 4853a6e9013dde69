"""Stable Diffusion-shaped pipelines with random weights: speed and memory do not depend on their values."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

# For machines without a GPU: every width of SD 1.5 halved, so that its parts keep their proportions; depth is the same.
HALF = {
    "unet": {"block_out_channels": [160, 320, 640, 640], "cross_attention_dim": 384, "attention_head_dim": 4},
    "text": {"hidden_size": 384, "projection_dim": 384, "intermediate_size": 1536, "num_attention_heads": 6},
    "vae": {"block_out_channels": [64, 128, 256, 256]},
}


def arguments(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--family", choices=("sd15", "sdxl"), default="sd15")
    parser.add_argument("--size", choices=("half", "full"), default="half")
    parser.add_argument("--precision", choices=("fp32", "bf16", "fp16"), default="fp32")
    parser.add_argument("--side", type=int, default=256, help="pixels of a picture's side")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--no-write", dest="write", action="store_false", help="print only")
    parser.add_argument("--row", help=argparse.SUPPRESS)
    return parser


def pipeline(family: str, size: str) -> Any:
    """A diffusers pipeline on the CPU in fp32, from the published configuration, of half its widths if asked.

    Its weights are numbers of 16 bit, as those of published files are.
    """
    import diffusers
    import tiny
    import torch
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    from facechain.engines.diffusion.layouts import LAYOUTS

    if size == "half" and family == "sdxl":
        raise SystemExit("The half size is of SD 1.5's shape: use --size full for SDXL.")
    layout = {name: dict(values) for name, values in LAYOUTS[family].items()}
    if size == "half":
        layout["unet/config.json"] |= HALF["unet"]
        layout["text_encoder/config.json"] |= HALF["text"]
        layout["vae/config.json"] |= HALF["vae"]
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        tiny.write_tokenizer(Path(folder))
        tokenizer = CLIPTokenizer.from_pretrained(folder)
    parts = {
        "unet": diffusers.UNet2DConditionModel.from_config(layout["unet/config.json"]),
        "vae": diffusers.AutoencoderKL.from_config(layout["vae/config.json"]),
        "text_encoder": CLIPTextModel(CLIPTextConfig(**layout["text_encoder/config.json"])),
        "tokenizer": tokenizer,
        "scheduler": diffusers.DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"),
    }
    if family == "sdxl":
        second = CLIPTextConfig(**layout["text_encoder_2/config.json"])
        parts |= {"text_encoder_2": CLIPTextModelWithProjection(second), "tokenizer_2": tokenizer}
        made = diffusers.StableDiffusionXLPipeline(**parts)
    else:
        made = diffusers.StableDiffusionPipeline(
            **parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False
        )
    for model in (m for m in made.components.values() if isinstance(m, torch.nn.Module)):
        for value in model.parameters():
            value.data = value.data.half().float()
    made.set_progress_bar_config(disable=True)
    return made


def dtype_of(precision: str) -> Any:
    import torch

    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


class Clock:
    """Seconds of work: by the wall on a GPU, waiting for it; by this process's own time on a CPU that others share."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.start = self._now()

    def _now(self) -> float:
        import torch

        if self.device == "cuda":
            torch.cuda.synchronize()
            return time.perf_counter()
        return time.process_time()

    def lap(self) -> float:
        before, self.start = self.start, self._now()
        return self.start - before


def rows_in_processes(script: str, given: argparse.Namespace, rows: list[str]) -> dict[str, dict[str, Any]]:
    """Each row in a process of its own, so that peaks of memory are its own; one after the other."""
    import subprocess

    made = {}
    flags = [
        part
        for key, value in vars(given).items()
        if key not in ("row", "write")
        for part in (f"--{key.replace('_', '-')}", str(value))
    ]
    for row in rows:
        done = subprocess.run(
            [sys.executable, script, *flags, "--row", row], capture_output=True, text=True, check=False
        )
        if done.returncode:
            print(f"{row} failed: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
            continue
        made[row] = json.loads(done.stdout.strip().splitlines()[-1])
    return made


def tell(subject: str, given: argparse.Namespace, lines: list[str]) -> None:
    """Prints the lines, and keeps them in docs/measurements.md unless --no-write; full sizes beside the half ones."""
    from importlib.machinery import SourceFileLoader
    from importlib.util import module_from_spec, spec_from_loader

    print("\n".join(lines))
    if not given.write:
        return
    loader = SourceFileLoader("bench", str(ROOT / "scripts" / "bench"))
    spec = spec_from_loader("bench", loader)
    assert spec is not None
    common = module_from_spec(spec)
    loader.exec_module(common)
    more = "" if given.size == "half" else f"-{given.family}-full"
    common.keep(subject + more, "\n".join([common.machine(), "", *lines]))


def verdict(what: str, ratio: float, goal: float, *, least: bool = True) -> str:
    """One line: the ratio, the goal, and whether it was reached."""
    reached = ratio >= goal if least else ratio <= goal
    return f"- {what}: **{ratio:.2f}×** (goal {goal:g}×: {'reached' if reached else 'missed'})."


def share_of_roof(work: Callable[[], Any], seconds: float, precision: str, device: str) -> dict[str, float]:
    """How much of what the GPU can do in matrix products `work` does in so many seconds; nothing on a CPU.

    Counted are matrix products, convolutions and attention; the roof is a square product of side 8192, timed here.
    """
    if device != "cuda":
        return {}
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        work()
    square = torch.randn(8192, 8192, device=device, dtype=dtype_of(precision))
    for _ in range(3):
        square @ square
    clock, times = Clock(device), 20
    for _ in range(times):
        square @ square
    roof = times * 2 * 8192**3 / clock.lap()
    return {"share": counter.get_total_flops() / seconds / roof, "roof_tflops": roof / 1e12}


def roof_of(row: dict[str, Any]) -> str:
    return f" Matrix products reach {row['roof_tflops']:.0f} TFLOP/s here." if "roof_tflops" in row else ""


def percent(row: dict[str, Any]) -> str:
    return f"{row['share']:.0%}" if "share" in row else "–"


def forget_peak(device: str) -> None:
    """From here on, peaks are those of the work and not of making the models."""
    import gc

    import torch

    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    elif Path("/proc/self/clear_refs").exists():
        import ctypes

        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")


def peak_gib(device: str) -> float:
    import torch

    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**30
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**20
