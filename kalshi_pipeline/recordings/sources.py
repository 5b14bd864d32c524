"""All the places a session can come from, behind one door.

Recording folders first; a session no folder has, but the generator has a profile of, is generated
(its folder says so, and so does every report). PostgreSQL is to stand between the two.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from kalshi_pipeline.errors import MissingFile, SessionNotFound
from kalshi_pipeline.names import session_id
from kalshi_pipeline.recordings.folder import Recording, RecordingFolders


class SessionSources:
    """Recording folders, then generated sessions.

    Args:
        roots: folders of recordings.
        generated_root: where generated sessions are written.

    Raises:
        MissingFile: one of the roots is no folder; going on without it would silently generate
            what the user meant to read.
    """

    def __init__(self, roots: Sequence[Path], generated_root: Path) -> None:
        for root in roots:
            if not root.is_dir():
                raise MissingFile(
                    "KALSHI_RECORDINGS names a folder that does not exist", value=str(root)
                )
        self._recorded = RecordingFolders(roots)
        self._generated = RecordingFolders([generated_root])
        self._generated_root = generated_root

    def sessions(self) -> list[int]:
        """Ids of every session that exists as a folder, ascending."""
        return sorted({*self._recorded.sessions(), *self._generated.sessions()})

    def find(self, session: int) -> Recording:
        """One session that exists as a folder; nothing is generated.

        Raises:
            RecordingError: there is no such folder, or it cannot be used.
        """
        number = session_id(session)
        recorded = any((root / str(number)).is_dir() for root in self._recorded.roots)
        return (self._recorded if recorded else self._generated).open(number)

    def open(self, session: int, progress: Callable[[str], None] | None = None) -> Recording:
        """One session, generated first where that is the only way to have it.

        Raises:
            SessionNotFound: no folder and no profile of this id.
            RecordingError: the recording is there but cannot be used.
        """
        number = session_id(session)
        if any((root / str(number)).is_dir() for root in self._recorded.roots):
            return self._recorded.open(number)

        from kalshi_pipeline.recordings import generator

        profiles = {**generator.PROFILES, **generator.QUICK_PROFILES}
        profile = profiles.get(number)
        if profile is None:
            known = ", ".join(map(str, self.sessions())) or "none"
            possible = ", ".join(map(str, sorted(profiles)))
            searched = ", ".join(map(str, self._recorded.roots)) or "KALSHI_RECORDINGS is not set"
            raise SessionNotFound(
                f"no such session; recorded or generated so far: {known}; can be generated: "
                f"{possible}; folders searched: {searched}",
                session=number,
            )
        if not generator.is_current(self._generated_root, profile):
            generator.write_session(profile, self._generated_root, progress)
        return self._generated.open(number)
