"""Every error the pipeline raises on purpose, in one tree.

KalshiPipelineError
├── RecordingError            the raw capture
│   ├── SessionNotFound       no source knows this session id
│   ├── MissingFile           a recording folder lacks session.json or its messages
│   ├── CorruptRecording      a file of the recording cannot be read at all
│   ├── SessionTooLarge       more rows or markets than a session may have
│   ├── SourceUnavailable     the database cannot be reached, or broke off for good
│   ├── SchemaMismatch        the database lacks a table or column, or has another type there
│   ├── SourceChanged         the session's rows changed while they were being read
│   └── CannotExport          a session that cannot be written to the database as asked
├── InvalidName               a session id or ticker that is not one
├── StorageError              the warehouse
│   ├── NotPublished          nothing has been published under this name yet
│   ├── CorruptFile           bytes on disk differ from their manifest, or are not what they claim
│   └── DiskFull              no room for what is to be published
├── TradingError              the simulator was asked for what it cannot do
│   ├── InvalidAction         not one whole number of the seven for each lane
│   └── NotInPlay             a step before the first reset, or after the episode's end
├── PlanError                 a training plan that contradicts itself
├── SealError                 a session kept for one look
│   ├── SessionSealed         nobody may look at it yet
│   └── AlreadyOpened         it has been opened, once, for another checkpoint
├── TrainingError
│   ├── NoSuitableMarket      nothing to train on
│   ├── NoProfitableEpisode   nothing to clone
│   ├── TrainingDiverged      a number stopped being finite, or broke its bound
│   ├── MissingParent         the phase to continue from is not there
│   ├── CorruptCheckpoint     a checkpoint that cannot be trusted
│   ├── IncompatibleCheckpoint  made by another feature table or network
│   ├── ForeignModel          a model of others that is none, too large, or more than tensors
│   ├── RunInUse              another process writes this training run
│   ├── OutOfMemory           the sizes asked for do not fit
│   └── TrainingStopped       it was asked to stop; what it had learned is kept
└── EvaluationError           an evaluation that cannot be carried out
    ├── UnearnedClaim         a report says in words what its figures do not show
    └── UnreadableReport      no report, or one of another schema version
"""

from __future__ import annotations


class KalshiPipelineError(Exception):
    """One sentence for a person, with the facts beside it for a machine.

    Args:
        message: what went wrong and, where there is one, the remedy.
        session: session id, where one is concerned.
        market: market ticker, where one is concerned.
        row: the row, line or step at fault.
        rule: the rule that was broken.
        value: the offending value.
    """

    def __init__(
        self,
        message: str,
        *,
        session: int | str | None = None,
        market: str | None = None,
        row: int | str | None = None,
        rule: str | None = None,
        value: object = None,
    ) -> None:
        self.session, self.market, self.row = session, market, row
        self.rule, self.value = rule, value
        facts = {"session": session, "market": market, "row": row, "rule": rule, "value": value}
        named = ", ".join(f"{name} {fact}" for name, fact in facts.items() if fact is not None)
        super().__init__(f"{message} [{named}]" if named else message)


class RecordingError(KalshiPipelineError):
    """The raw capture cannot be used."""


class SessionNotFound(RecordingError):
    """No source knows this session id."""


class MissingFile(RecordingError):
    """A recording folder lacks a file it must have."""


class CorruptRecording(RecordingError):
    """A file of the recording cannot be read at all."""


class SessionTooLarge(RecordingError):
    """More rows or markets than a session may have; memory and time grow with both."""


class SourceUnavailable(RecordingError):
    """The database cannot be reached, or broke off more often than is tried again."""


class SchemaMismatch(RecordingError):
    """The database lacks a table or column that is needed, or has another type there."""


class SourceChanged(RecordingError):
    """The session's rows changed while they were being read; nothing of it is kept."""


class CannotExport(RecordingError):
    """A session that cannot be written to the database as asked."""


class InvalidName(KalshiPipelineError):
    """A session id or market ticker that does not have the form of one."""


class StorageError(KalshiPipelineError):
    """The warehouse cannot give or take what was asked."""


class NotPublished(StorageError):
    """Nothing has been published under this name yet."""


class CorruptFile(StorageError):
    """Bytes on disk differ from their manifest, or are not what they claim to be."""


class DiskFull(StorageError):
    """No room for what is to be published; what was published before is untouched."""


class TradingError(KalshiPipelineError):
    """The simulator was asked for what it cannot do; its state is as it was."""


class InvalidAction(TradingError, ValueError):
    """Not one whole number of the seven actions for each lane."""


class NotInPlay(TradingError):
    """A step before the first reset, or after the end of the episode."""


class PlanError(KalshiPipelineError):
    """A training plan that contradicts itself or names what does not exist."""


class SealError(KalshiPipelineError):
    """A session that is kept for one look at the end."""


class SessionSealed(SealError):
    """It was asked for and is sealed: nothing learns from it, chooses by it or is judged on it."""


class AlreadyOpened(SealError):
    """A sealed session is opened once; it was, for another checkpoint."""


class TrainingError(KalshiPipelineError):
    """Training cannot go on."""


class NoSuitableMarket(TrainingError):
    """There is nothing to train on."""


class NoProfitableEpisode(TrainingError):
    """No episode ended with a profit: there is nothing to clone."""


class TrainingDiverged(TrainingError):
    """A number stopped being finite, or broke a bound that only a simulator bug can break."""


class MissingParent(TrainingError):
    """The phase to continue from has no checkpoint."""


class CorruptCheckpoint(TrainingError):
    """A checkpoint that is incomplete, damaged or not finite."""


class IncompatibleCheckpoint(TrainingError):
    """A checkpoint made by another feature table or network."""


class ForeignModel(TrainingError):
    """A model of others that is none, is too large, or holds more than tensors."""


class OutOfMemory(TrainingError):
    """The sizes asked for do not fit into memory; none of them was changed."""


class RunInUse(TrainingError):
    """Another process writes this training run."""


class TrainingStopped(TrainingError):
    """It was asked to stop before its end; what it had learned by then is kept."""


class EvaluationError(KalshiPipelineError):
    """An evaluation that cannot be carried out."""


class UnearnedClaim(EvaluationError):
    """A report says in words what its figures do not show; it is not written."""


class UnreadableReport(EvaluationError):
    """A `report.json` that is none, is damaged, or is of another schema version."""
