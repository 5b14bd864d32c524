"""All the places a session can come from, behind one door.

Recording folders first; then the database; a session neither has, but the generator has a profile
of, is generated (its folder says so, and so does every report). A folder wins over the database: it
holds the frames themselves. Where there is a database, the sessions of the training plan are its
own, and none of them is generated in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from kalshi_pipeline.config import PipelineConfig
from kalshi_pipeline.errors import MissingFile, SessionNotFound
from kalshi_pipeline.names import session_id
from kalshi_pipeline.recordings.folder import Recording, RecordingFolders
from kalshi_pipeline.recordings.ingest import ingest, require_limits

if TYPE_CHECKING:
    from kalshi_pipeline.recordings.postgres.sessions import DatabaseSession, DatabaseSessions

Session: TypeAlias = "Recording | DatabaseSession"


def reading_settings(session: Session) -> dict[str, Any]:
    """What a session's message table depends on beside its raw data."""
    return {} if isinstance(session, Recording) else session.settings()


def write_messages(session: Session, folder: Path) -> dict[str, Any]:
    """Write a session's message table and quarantine into a folder; its figures.

    Raises:
        SessionTooLarge: it has more rows or markets than a session may have.
    """
    if isinstance(session, Recording):
        return asdict(ingest(session, folder))
    require_limits(session.info, 0)
    summary = session.ingest(folder)
    require_limits(session.info, summary.rows)
    return {**asdict(summary), **session.found}


class SessionSources:
    """Recording folders, then the database, then generated sessions.

    Args:
        roots: folders of recordings.
        generated_root: where generated sessions are written.
        database_url: a collector's PostgreSQL database; None where there is none.
        config: how the database is read and recovered.

    Raises:
        MissingFile: one of the roots is no folder; going on without it would silently generate
            what the user meant to read.
    """

    def __init__(
        self,
        roots: Sequence[Path],
        generated_root: Path,
        database_url: str | None = None,
        config: PipelineConfig | None = None,
    ) -> None:
        for root in roots:
            if not root.is_dir():
                raise MissingFile(
                    "KALSHI_RECORDINGS names a folder that does not exist", value=str(root)
                )
        self.recorded = RecordingFolders(roots)
        self._generated = RecordingFolders([generated_root])
        self._generated_root = generated_root
        self._database_url = database_url
        self._config = config or PipelineConfig()

    @cached_property
    def database(self) -> DatabaseSessions | None:
        """The sessions of the database, where there is one.

        Raises:
            SourceUnavailable: its URL is none of PostgreSQL.
        """
        if self._database_url is None:
            return None
        from kalshi_pipeline.recordings.postgres.connection import Database
        from kalshi_pipeline.recordings.postgres.sessions import DatabaseSessions

        database = Database(self._database_url, self._config.database)
        return DatabaseSessions(database, self._config.recovery, self._config.book.trust)

    def sessions(self) -> list[int]:
        """Ids of every session that exists, ascending; a database's active ones too."""
        stored = self.database.infos() if self.database else []
        folders = {*self.recorded.sessions(), *self._generated.sessions()}
        return sorted(folders | {info.session for info in stored})

    def completed(self) -> list[int]:
        """Ids of the sessions that are over, ascending: those a sensor may offer."""
        stored = self.database.completed() if self.database else []
        return sorted({*self.recorded.sessions(), *self._generated.sessions(), *stored})

    def find(self, session: int) -> Session:
        """One session that exists in a folder or the database; nothing is generated.

        Raises:
            RecordingError: there is no such session, or it cannot be used.
        """
        number = session_id(session)
        return self._kept(number) or self._generated.open(number)

    def open(self, session: int, progress: Callable[[str], None] | None = None) -> Session:
        """One session, generated first where that is the only way to have it.

        Raises:
            SessionNotFound: no folder, no row of the database and no profile of this id.
            RecordingError: the recording is there but cannot be used.
        """
        number = session_id(session)
        return self._kept(number) or self._generate(number, progress)

    def _kept(self, number: int) -> Session | None:
        if any((root / str(number)).is_dir() for root in self.recorded.roots):
            return self.recorded.open(number)
        return self.database.find(number) if self.database else None

    def _generate(self, number: int, progress: Callable[[str], None] | None) -> Recording:
        from kalshi_pipeline.recordings import generator

        # the plan's own sessions are in its owner's database: none is made up in their place
        owned = {} if self.database else generator.PROFILES
        profiles = {**owned, **generator.QUICK_PROFILES}
        profile = {**profiles, **generator.EXTRA_PROFILES}.get(number)
        if profile is None:
            known = ", ".join(map(str, self.sessions())) or "none"
            possible = ", ".join(map(str, sorted(profiles)))
            searched = ", ".join(map(str, self.recorded.roots)) or "KALSHI_RECORDINGS is not set"
            absent = "; the database has no such session" if self.database else ""
            raise SessionNotFound(
                f"no such session; recorded or generated so far: {known}; can be generated: "
                f"{possible}; folders searched: {searched}{absent}",
                session=number,
            )
        if not generator.is_current(self._generated_root, profile):
            generator.write_session(profile, self._generated_root, progress)
        return self._generated.open(number)
