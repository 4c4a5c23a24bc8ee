"""Search for a country's AliExpress files: the publisher's pairs or MTReclib's two, plain, zip or gzip.

Source: docs/methods/datasets.md#aliexpress-raw-files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stemlab.errors import StemlabError

_SPLITS = ("train", "test")
_SUFFIXES = (".csv", ".zip", ".csv.zip", ".csv.gz")


@dataclass(frozen=True, slots=True)
class TextFile:
    """A csv file or an archive that contains it.

    Attributes:
        path: the file on disk.
        member: name of the csv file, also inside an archive.
    """

    path: Path
    member: str


@dataclass(frozen=True, slots=True)
class CountryFiles:
    """Files of one country.

    Attributes:
        country: country code in lower case.
        train: user file and item file (publisher's format), or one file (MTReclib's format).
        test: likewise.
    """

    country: str
    train: tuple[TextFile, ...]
    test: tuple[TextFile, ...]

    @property
    def raw(self) -> bool:
        """Whether the files have the publisher's format."""
        return len(self.train) == 2

    @property
    def texts(self) -> tuple[TextFile, ...]:
        """All files, train first."""
        return (*self.train, *self.test)


def find_countries(raw_dir: Path, countries: Sequence[str]) -> list[CountryFiles] | None:
    """Return the files of these countries, or ``None`` if no country has any.

    Raises:
        StemlabError: some countries have all files and others do not.
    """
    found = [_find(raw_dir, country, alone=len(countries) == 1) for country in countries]
    if not any(found):
        return None
    for country, files in zip(countries, found, strict=True):
        if files is None:
            complete = [name for name, files in zip(countries, found, strict=True) if files]
            raise missing_country(raw_dir, country, f"set dataset.scenarios=[{', '.join(complete)}]")
    return [files for files in found if files is not None]


def missing_country(raw_dir: Path, country: str, alternative: str) -> StemlabError:
    """Return the error for a country without files; ``alternative`` is a second remedy."""
    upper = country.upper()
    return StemlabError(
        f"{raw_dir} has no files of {upper}: put AliExpress_{upper}/train.csv and test.csv there, or "
        f"{country}_user_train.csv, {country}_item_train.csv, {country}_user_test.csv, {country}_item_test.csv (each "
        f"also as .zip), or aliexpress_{upper}_datasets.zip (docs/methods/datasets.md); or {alternative}."
    )


def _find(raw_dir: Path, country: str, *, alone: bool) -> CountryFiles | None:
    """Search the possible folders of a country; a complete set of files takes precedence over an incomplete one."""
    upper = country.upper()
    names = (f"aliexpress_{upper}", f"aliexpress_{upper}_datasets", country)
    folders = [path for path in (_entry(raw_dir, name) for name in names) if path is not None and path.is_dir()]
    raw = [f"{country}_{side}_{split}" for split in _SPLITS for side in ("user", "item")]
    wanted = [(folder, _SPLITS) for folder in folders] + [(folder, raw) for folder in (*folders, raw_dir)]
    if alone:
        wanted.append((raw_dir, _SPLITS))
    sets = [[_text(folder, name) for name in names] for folder, names in wanted]
    for texts in sets:
        if all(texts):
            return _files(country, [text for text in texts if text is not None])
    archive = _entry(raw_dir, f"aliexpress_{upper}_datasets.zip")
    if archive is not None:
        return _files(country, [TextFile(archive, f"{name}.csv") for name in raw])
    for (folder, stems), texts in zip(wanted, sets, strict=True):
        for stem, text in zip(stems, texts, strict=True):
            if text is None and any(texts):
                present = next(other for other in texts if other is not None).path.name
                raise StemlabError(
                    f"{folder} has {present}, but no {stem}.csv (nor .zip, .csv.gz): put it into the same folder."
                )
    return None


def _files(country: str, texts: Sequence[TextFile]) -> CountryFiles:
    half = len(texts) // 2
    return CountryFiles(country, tuple(texts[:half]), tuple(texts[half:]))


def _text(folder: Path, stem: str) -> TextFile | None:
    found = (_entry(folder, stem + end) for end in _SUFFIXES)
    return next((TextFile(path, f"{stem}.csv") for path in found if path is not None and path.is_file()), None)


def _entry(folder: Path, name: str) -> Path | None:
    """Return the entry of a folder with this name, ignoring case."""
    if not folder.is_dir():
        return None
    return next((path for path in sorted(folder.iterdir()) if path.name.lower() == name.lower()), None)
