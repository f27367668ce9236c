"""Which adapter a request runs with, whether it may run on this base, and the trial of a new one."""

from __future__ import annotations

from pathlib import Path

from services.adapters import AdapterRecord, AdapterRegistry, check_base
from services.chat.chat_model import AdapterRef
from services.errors import AdapterError, HerdLensError
from services.model_parts import ModelParts
from services.schema import Task


class AdapterChoice:
    """The adapters of ``registry`` on the base of ``parts``. Thread-safe, since both are."""

    def __init__(self, registry: AdapterRegistry, parts: ModelParts) -> None:
        self._registry = registry
        self._parts = parts

    def named(self, name: str | None, task: Task) -> tuple[AdapterRecord, list[str]]:
        """The adapter called ``name`` (None: the profile's for ``task``), checked against this base, and what to warn
        of. AdapterError where there is none or it must not run."""
        chosen = self._parts.profile
        wanted = name or chosen.tuned_for(task)
        if wanted is None:
            raise AdapterError(
                f"The profile {chosen.name!r} has no tuned adapter for the task {task!r}; train one or add one "
                "with 'python -m agent adapters add'."
            )
        record = self._registry.get(wanted)
        if record.task != task:
            raise AdapterError(
                f"The adapter {record.name!r} was trained for the task {record.task!r}, not for {task!r}; choose "
                "another adapter or task."
            )
        return record, self._fits(record)

    def names(self, task: str | None) -> list[str]:
        """Adapters of ``task`` that may run on this base (not asked before the base is in memory); all registered ones
        without a task."""
        return [
            record.name
            for record in self._registry.list()
            if task is None or (record.task == task and not (self._parts.loaded and self.problem(record)))
        ]

    def problem(self, record: AdapterRecord) -> str | None:
        """Why this adapter cannot run on this base, in one sentence; None where it can."""
        try:
            self._fits(record)
        except HerdLensError as error:
            return str(error)
        return None

    def add(self, folder: Path, name: str | None) -> AdapterRecord:
        """Register the adapter in ``folder``; the next request can use it. Refused with AdapterError, and not kept,
        where it is malformed, was trained for another base, or is a no-op on this one."""
        before = {record.name for record in self._registry.list()}
        record = self._registry.add(folder, name)
        try:
            self._fits(record)
            self._parts.backend.try_adapter(reference(record))
        except HerdLensError:
            if record.name not in before:
                self._registry.remove(record.name)
            raise
        return record

    def is_calibrated(self, name: str) -> bool:
        """Whether the profile's verdict rule was fitted for exactly this adapter."""
        return self._parts.calibration_file.adapters.get(name) == self._registry.get(name).digest

    def _fits(self, record: AdapterRecord) -> list[str]:
        """What to warn of when ``record`` runs on this base; AdapterError where it must not."""
        identity = self._parts.identity
        return check_base(
            record,
            base_model=identity.model,
            architecture=identity.architecture,
            weights=identity.weights,
            preprocessing=self._parts.preprocessing_digest(record.task),
            compatible_bases=self._parts.profile.compatible_bases,
        )


def reference(record: AdapterRecord) -> AdapterRef:
    """``record`` as the engines know it."""
    return AdapterRef(record.name, record.folder, record.digest)
