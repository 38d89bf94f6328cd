"""One value after another out of a JSON file that is too large to hold."""

import json
from collections.abc import Iterator
from typing import IO, Any

CHUNK = 1 << 18  # characters; a value that is longer is read in chunks that grow with it
MAX_VALUE = 1 << 26  # characters: a broken file must not be read into memory in search of a bracket
WHITESPACE = " \t\r\n"
LITERAL_ENDS = '}]"'  # a value that ends in one of these is whole; a number may continue in the next chunk


class JsonStream:
    """A cursor over JSON text that reads a chunk when it needs one.

    Raises everywhere:
        EOFError: the text ends inside a value.
        ValueError: the text is no JSON.
    """

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._buffer = ""
        self._position = 0
        self._decoder = json.JSONDecoder()

    def peek(self) -> str:
        """The next character that is no white space, left in place; empty at the end."""
        while True:
            while self._position < len(self._buffer) and self._buffer[self._position] in WHITESPACE:
                self._position += 1
            if self._position < len(self._buffer):
                return self._buffer[self._position]
            if not self._read_more():
                return ""

    def expect(self, characters: str) -> str:
        """Take the next character, which must be one of `characters`."""
        character = self.peek()
        if not character:
            raise EOFError("the JSON text ends in the middle")
        if character not in characters:
            raise ValueError(f"found {character!r} where one of {characters!r} must stand")
        self._position += 1
        return character

    def value(self) -> Any:
        """Decode the next value, whole."""
        self.peek()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._buffer, self._position)
            except RecursionError as error:
                raise ValueError("brackets nest too deeply to be read") from error
            except ValueError as error:
                if len(self._buffer) - self._position > MAX_VALUE:
                    raise ValueError(f"no whole JSON value within {MAX_VALUE} characters: {error}") from error
                if not self._read_more():
                    raise EOFError(f"the JSON text is cut off or broken: {error}") from error
                continue
            if end < len(self._buffer) or self._buffer[end - 1] in LITERAL_ENDS or not self._read_more():
                self._position = end
                return value

    def items(self) -> Iterator[Any]:
        """The elements of the array that comes next, one at a time."""
        self.expect("[")
        if self.peek() == "]":
            self.expect("]")
            return
        while True:
            yield self.value()
            if self.expect(",]") == "]":
                return

    def keys(self) -> Iterator[str]:
        """The keys of the object that comes next; the caller must take each value before the next key."""
        self.expect("{")
        if self.peek() == "}":
            self.expect("}")
            return
        while True:
            key = self.value()
            self.expect(":")
            yield key
            if self.expect(",}") == "}":
                return

    def _read_more(self) -> bool:
        chunk = self._stream.read(max(CHUNK, len(self._buffer) - self._position))
        self._buffer = self._buffer[self._position :] + chunk
        self._position = 0
        return bool(chunk)
