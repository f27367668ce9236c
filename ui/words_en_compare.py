"""The English wording of the Compare screen."""

from __future__ import annotations

WORDS: dict[str, str] = {
    "nav.compare": "Compare",
    "column.base": "Base",
    "column.tuned": "Tuned",
    "column.alone": "Tuned, no comparison",
    "compare_state.running": "running",
    "compare_state.finished": "finished",
    "compare_state.cancelled": "cancelled",
    "compare_state.broken": "broken off",
    "compare.title": "Base against tuned",
    "compare.help": (
        "Several clips at once through the base model, the tuned model, and the tuned model without reference clips. "
        "It runs in the background: you may close this page and come back."
    ),
    "compare.choose": "Clips to compare",
    "compare.tab_upload": "Upload",
    "compare.tab_samples": "Samples",
    "compare.tab_annotations": "Annotation file",
    "compare.tab_history": "Past analyses",
    "compare.upload": "Video clips",
    "compare.upload_help": "MP4, MOV, AVI, MKV, WebM, GIF or MPEG; several at once.",
    "compare.samples": "Shipped samples, whose truth is known",
    "compare.annotations": "JSON file of the media folder",
    "compare.annotations_help": "Its labels count as the truth.",
    "compare.no_media": "Set HERDLENS_MEDIA to a folder that holds annotated clips.",
    "compare.no_annotations": "There is no JSON file in {folder}.",
    "compare.no_clips": "{file} names no clips.",
    "compare.history": "Clips that you analyzed before",
    "compare.history_help": "What you said under an analysis counts as the truth.",
    "compare.no_history": "No past analysis has its clip any more.",
    "compare.choose_some": "Choose one or more",
    "compare.add": "Add",
    "compare.added": "{count} clips added.",
    "compare.chosen": "{count} clips chosen; of {known} it is known what they show.",
    "compare.clip": "Clip",
    "compare.truth": "It shows",
    "compare.remove": "Remove",
    "compare.empty": "Empty the list",
    "compare.start": "Compare {count} clips",
    "compare.heading": "{count} clips, {when} UTC",
    "compare.used": "Tuned with adapter {adapter}. Reference clips for base and tuned: {retrieval}. Profile {profile}.",
    "compare.progress": "{done} of {total} clips done",
    "compare.now": "Now: {name}",
    "compare.cancel": "Cancel",
    "compare.stopping": "Stopping …",
    "compare.broken": "It was broken off after {done} of {total} clips, because HerdLens ended meanwhile.",
    "compare.cancelled": "Cancelled after {done} of {total} clips; what was looked at stays.",
    "compare.resume": "Go on",
    "compare.agree": "Base and tuned agree on **{agree} of {both}** clips.",
    "compare.differ": "They differ on {count}: {flips}.",
    "compare.flip": "{before} → {after}: {count}",
    "compare.mended": "With the truth known: {mended} became right, {spoilt} became wrong.",
    "compare.right": "{right} of {known} right",
    "compare.tally": "{wrong} wrong, {unclear} unclear",
    "compare.own": "Its own score alone would be right on {own_right} of {own}.",
    "compare.no_truth": (
        "Right and wrong are counted once the truth is known: from an annotation file, or from what you say under an "
        "analysis."
    ),
    "compare.vote_alone": (
        "In this profile the base model's own score has no weight: its verdict here is the vote of the similar "
        "reference clips alone."
    ),
    "compare.other_rules": (
        "The base is judged by a calibrated rule, which leaves open what it is not sure of. For the adapter {adapter} "
        "there is none: its score alone decides. Compare what their own scores would be right on."
    ),
    "compare.cells": "Each cell: verdict, probability of mounting, and ✓ or ✗ where the truth is known.",
    "compare.changed": "Changed",
    "compare.open": "Report",
    "compare.open_one": "Open",
    "compare.failed": "These clips have no verdict, or only some of theirs:",
    "compare.more_failed": "and {count} more",
    "compare.csv": "Table (CSV)",
    "compare.delete": "Delete",
    "compare.delete_sure": "Delete this comparison? Its analyses stay in the history.",
    "compare.delete_yes": "Yes, delete it",
    "compare.earlier": "Earlier comparisons",
    "compare.row": "{when} UTC · {done} of {total} clips · {state}",
    "compare.show": "Show",
}
