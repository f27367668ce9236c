"""The English wording of the Train screen."""

from __future__ import annotations

WORDS: dict[str, str] = {
    "nav.train": "Train",
    "source.own": "Your own clips ({count})",
    "source.sample": "Shipped samples ({count})",
    "source.practice": "Practice clips ({count})",
    "from.library": "your library",
    "from.history": "past analyses",
    "from.sample": "sample",
    "from.practice": "practice",
    "run_state.running": "training",
    "run_state.stopping": "stopping",
    "run_state.done": "finished",
    "run_state.stopped": "stopped",
    "run_state.failed": "failed",
    "run_state.killed": "broken off",
    "train.title": "Train on your own clips",
    "train.help": (
        "Clips whose truth you told, under an analysis or in the library, teach the model what mounting looks like in "
        "your barn. Training runs in a process of its own: you may close this page, and even the app, and come back."
    ),
    "train.set": "What it learns from",
    "train.sources": "Clips",
    "train.sources_help": (
        "Practice clips are drawn by the demo's renderer: they show how training works, and teach nothing about real "
        "animals."
    ),
    "train.counted": "{count} clips, {reasoned} of them with a reason in words.",
    "train.verdict_only": "Where there are no words of yours, the verdict alone is learnt.",
    "train.more_clips": "and {count} more.",
    "train.no_picture": "(no picture)",
    "train.draw": "Draw {count} practice clips",
    "train.drawing": "Drawing practice clips: {done} of {total}",
    "train.draw_broken": "Drawing ended after {done} of {total} clips: {message}",
    "train.new": "New training",
    "train.name": "Name of the new adapter",
    "train.name_help": "Letters, digits, dashes and underscores. The adapter is chosen by this name later.",
    "train.name_taken": "There is an adapter called {name} already; choose another name.",
    "train.begin": "Begin with",
    "train.begin_new": "A new adapter",
    "train.begin_help": (
        "A new adapter knows your clips only, and needs many. Going on from one that there is begins with what it "
        "knows, so that fewer clips do; that one itself stays as it is."
    ),
    "train.began_with": "goes on from {name}",
    "train.begun_from": "{name}, which it began with",
    "train.epochs": "Times through all clips",
    "train.epochs_help": "It stops earlier by itself when the held-out clips no longer get better.",
    "train.more": "More settings",
    "train.batch": "Clips in one step",
    "train.rate": "Learning rate",
    "train.rate_help": "How far each step goes: 0.002 suits the demo model, 0.0002 real ones.",
    "train.held_out": "Share of clips held out",
    "train.held_out_help": "These are never trained on; the figures are read from them.",
    "train.context": "Also practise with reference cases",
    "train.context_help": (
        "As in analyses with comparison. Needs two clips of each kind with a reason besides those held out."
    ),
    "train.no_context": "Too few clips have a reason, so it learns without reference cases.",
    "train.start": "Start training",
    "train.preparing_set": "Putting the clips together …",
    "train.busy": "Analyses are waiting or running, and the graphics card has no room for both; try again after them.",
    "train.one_runs": "A training is running; a new one can start after it.",
    "train.runs": "Trainings",
    "train.run": "{name} · {state}",
    "train.run_facts": "{mounting} mounting and {normal} normal clips · profile {profile} · begun {when} UTC",
    "train.preparing": "Loading the model and looking at the clips …",
    "train.steps": "Step {step} of {total}",
    "train.left": "{left} left",
    "train.speed": "Clips per second",
    "train.loss": "Loss",
    "train.held_loss": "Held-out loss",
    "train.held_right": "Balanced accuracy",
    "train.held_right_help": "On {count} clips that are held out of training.",
    "train.series": "Clips",
    "train.series_loss": "training",
    "train.series_held": "held out",
    "train.axis_step": "Step",
    "train.curve": (
        "Loss at each step on the clips that are trained on, and after each pass on those held out; lower is better."
    ),
    "train.stop": "Stop and save",
    "train.stop_now": "Stop at once",
    "train.stopping": "It saves and stops after this step.",
    "train.resume": "Go on",
    "train.delete": "Delete",
    "train.delete_sure": "Delete this training with its clips and checkpoints? An adapter in use stays.",
    "train.delete_yes": "Yes, delete it",
    "train.killed": "It was broken off: its process ended without a word. It goes on from its last checkpoint.",
    "train.stopped": "Stopped and saved after step {step} of {total}.",
    "train.stopped_early": "Stopped before its first step; it begins anew.",
    "train.figures": "On the {held_out} held-out clips",
    "train.figure": "Figure",
    "train.base": "Base",
    "train.tuned": "New adapter",
    "train.figure_off": "Balanced accuracy, clip alone",
    "train.figure_contrastive": "Balanced accuracy, with reference cases",
    "train.figure_loss": "Loss",
    "train.figures_help": (
        "Balanced accuracy is the mean of the shares of mounting and of normal clips that the model's own score gets "
        "right; one half is guessing. So few clips give a rough figure only."
    ),
    "train.no_better": (
        "It gets no more of the held-out clips right than the base does: train it longer, or on more clips."
    ),
    "train.no_better_start": (
        "It gets no more of the held-out clips right than the adapter that it began with: train it longer, or on more "
        "clips, or keep that one."
    ),
    "train.use": "Put it to use",
    "train.using": "Trying the adapter on the base model …",
    "train.in_use": "In use as {name}: choose it under “How to look at it” on the Analyze screen, or when comparing.",
    "train.to_analyze": "Analyze with it",
    "train.to_compare": "Compare it with the base",
    "train.show": "Show",
}
