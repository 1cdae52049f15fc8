"""The manifest of a sweep: with which model, in which versions, how and what. Written once, before any work."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tl_dream._errors import DreamError, require, shortened
from tl_dream.models import Host, model_hash, versions
from tl_dream.results import check_kind, read_json, write_json
from tl_dream.sweeps.jobs import Job, Kind

KIND = "sweep"
FILE = "manifest.json"
LARGEST = 1 << 32
"""Bytes of a manifest, whose list of jobs may be long."""

Manifest = Mapping[str, Any]


def make_manifest(
    host: Host, jobs: Iterable[Job], kind: Kind, corpus: Mapping[str, Any] | None, prompt: Any
) -> Manifest:
    """What a sweep is.

    Args:
        corpus: what is known of it (`name`, `lines`, `digest`) and how many of its sentences a unit starts from.
        prompt: what units start from where there is no corpus.
    """
    return {
        "kind": KIND,
        "version": 1,
        "versions": versions(),
        "model": {"name": host.name, "hash": model_hash(host)},
        "settings": kind.described(),
        "corpus": corpus,
        "prompt": prompt if prompt is None or isinstance(prompt, str) else repr(prompt),
        "jobs": [job.described() for job in jobs],
    }


def sweep_id(manifest: Manifest) -> str:
    """What its rows are marked with."""
    known = {key: value for key, value in manifest.items() if key != "corpus"}
    known["corpus"] = manifest["corpus"] and {k: v for k, v in manifest["corpus"].items() if k != "name"}
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:16]


def folder_of(given: Any) -> Path:
    """The folder of a sweep as it is given. Raises `DreamError` for what is no path."""
    require(isinstance(given, str | os.PathLike), f"{given!r:.80} is no folder: give the path of one (a sweep's out)")
    return Path(given)


def read_manifest(folder: Path) -> Manifest:
    """The manifest in a folder.

    Raises:
        DreamError: there is none, or it is broken.
    """
    require(folder.is_dir(), f"{str(folder)!r} is not a folder: give the folder that a sweep writes to (its out)")
    require((folder / FILE).exists(), f"there is no sweep in {str(folder)!r}: it has no {FILE}")
    try:
        data = read_json(folder / FILE, LARGEST)
        check_kind(data, KIND)
        parts = {"versions": dict, "model": dict, "settings": dict, "corpus": dict | None, "jobs": list}
        broken = [name for name, kind in parts.items() if not isinstance(data.get(name, 0), kind)]
        broken += [] if broken or all(map(_is_job, data["jobs"])) else ["jobs"]
        require(not broken, f"its {', '.join(broken)} are missing or wrong")
    except DreamError as error:
        raise DreamError(
            f"the manifest of the sweep in {str(folder)!r} is not as it was written ({error}): put it back from a "
            "copy, or begin anew in another folder"
        ) from error
    return data


def _is_job(job: Any) -> bool:
    if not isinstance(job, dict) or not isinstance(job.get("key"), str):
        return False
    numbers = job.get("numbers", [0.0, 0.0])
    return isinstance(numbers, list) and len(numbers) == 2 and all(isinstance(one, int | float) for one in numbers)


OWN = (".lock", ".tl_dream-*", "starts.checkpoint", "worker-*.lock")
"""What a sweep may leave that was killed before it had a manifest, or that does no harm to another."""


def keep_manifest(folder: Path, manifest: Manifest) -> Manifest:
    """Write the manifest where the folder has none, and see that it is of the same sweep where it has one.

    Returns:
        The folder's. Names in it may differ: of a model or a corpus that were moved since.

    Raises:
        DreamError: the folder holds something else, or another sweep; it is left untouched.
    """
    if not (folder / FILE).exists():
        strange = sorted(path.name for path in folder.iterdir() if not any(path.match(name) for name in OWN))
        require(
            not strange,
            f"the folder {str(folder)!r} holds other files ({shortened(', '.join(strange))}) and no {FILE}: give an "
            f"empty folder, or a new one; of a sweep that has lost it, put its {FILE} back",
        )
        write_json(folder / FILE, manifest)
        return manifest
    there = read_manifest(folder)
    other = list(_differences(there, json.loads(json.dumps(manifest))))
    if other:
        raise DreamError(
            f"the folder {str(folder)!r} holds another sweep, which is left untouched: {'; '.join(other[:4])}. Give "
            "another folder, or the same command as before"
        )
    return there


def _flat(part: Mapping[str, Any]) -> dict[str, Any]:
    """A method's settings beside the others."""
    found: dict[str, Any] = {}
    for name, value in part.items():
        inner = value if isinstance(value, dict) else {"kind": value}
        found |= {name if key == "kind" else f"{name}'s {key}": one for key, one in inner.items()}
    return found


def _differences(there: Manifest, here: Manifest) -> Iterable[str]:
    """In words, what a sweep was and is."""
    was, now = (manifest["settings"].get("what") for manifest in (there, here))
    if was != now:
        yield f"it is of {was}, not of {now}"
        return
    if there.get("prompt") != here["prompt"]:
        yield f"its prompt was {there.get('prompt')!r:.80} and is {here['prompt']!r:.80}"
    for part in ("versions", "model", "settings", "corpus"):
        was, now = (_flat(manifest.get(part) or {}) for manifest in (there, here))
        names = [name for name in sorted(was.keys() | now.keys()) if was.get(name) != now.get(name)]
        for name in names if names != ["name"] else []:  # what is the same under another name was moved
            label = {"settings": name, "versions": f"version of {name}"}.get(part, f"{part}'s {name}")
            yield f"its {label} was {shortened(repr(was.get(name)))} and is {shortened(repr(now.get(name)))}"
    jobs, others = ([job.get("key") for job in manifest["jobs"]] for manifest in (here, there))
    if jobs != others:
        more, less = set(jobs) - set(others), set(others) - set(jobs)
        named = "; ".join(
            f"{word} {', '.join(sorted(keys)[:3])}" for word, keys in (("new:", more), ("gone:", less)) if keys
        )
        count = f"it has {len(others)} jobs, not {len(jobs)}" if len(jobs) != len(others) else "its jobs are others"
        yield f"{count} ({named or 'in another order'})"
        return
    changed = [one["key"] for one, other in zip(here["jobs"], there["jobs"], strict=True) if not _alike(one, other)]
    if changed:
        yield f"{len(changed)} of its jobs hold other numbers, a direction or a target ({shortened(changed[0])})"


def _alike(job: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two jobs of one name are made of the same numbers, but for rounding (see `sketch`)."""
    one, before = job.get("numbers"), other.get("numbers")
    return one is None or before is None or all(abs(a - b) <= 1e-4 * one[0] for a, b in zip(one, before, strict=True))
