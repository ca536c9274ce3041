"""What the test vectors do not have: what is written, and what Python does otherwise."""

from __future__ import annotations

import json
import math
import random
import unittest
from decimal import Decimal

import irohub
from irohub import _errors, _link
from irohub import Json, encode, parse_envelope


class Encoding(unittest.TestCase):
    def test_bytes_that_the_protocol_shows(self) -> None:
        self.assertEqual(encode("a", "", 1), b'\x00\x00\x00\x18{"type":"a","payload":1}')

    def test_no_payload_and_null(self) -> None:
        self.assertEqual(encode("a", "b")[4:], b'{"type":"a","id":"b"}')
        self.assertEqual(encode("a", "b", Json("null"))[4:], b'{"type":"a","id":"b","payload":null}')

    def test_text_stays_as_it_is(self) -> None:
        self.assertEqual(encode("a", "", Json(' {"x" : 1.10e0}\n'))[4:], b'{"type":"a","payload":{"x" : 1.10e0}}')

    def test_surrogates(self) -> None:
        event = parse_envelope(encode("😀", "\"\\'", {"half": "\ud83d", "é": "😀"})[4:])
        self.assertEqual((event.type, event.id), ("😀", "\"\\'"))
        self.assertEqual(event.payload, {"half": "\ud83d", "é": "😀"})

    def test_what_is_not_json(self) -> None:
        cycle: list[object] = []
        cycle.append(cycle)
        bad = (math.nan, math.inf, {1, 2}, b"", cycle, Json(""), Json("{"), Json("1 2"), Json("NaN"), Json('"\ud83d"'))
        for payload in bad:
            with self.subTest(repr(payload)), self.assertRaises(irohub.InvalidPayloadError) as raised:
                encode("a", "b", payload)
            self.assertEqual(raised.exception.topic, "a:b")

    def test_nesting(self) -> None:
        for payload in (Json("[" * 127 + "]" * 127), json.loads("[" * 127 + "]" * 127)):
            parse_envelope(encode("a", "", payload)[4:])
        for depth in (128, 100_000):
            with self.assertRaises(irohub.InvalidPayloadError):
                encode("a", "", Json("[" * depth + "]" * depth))
        with self.assertRaises(irohub.InvalidPayloadError):
            encode("a", "", json.loads("[" * 128 + "]" * 128))

    def test_brackets_in_strings_are_not_nesting(self) -> None:
        payload: list[object] = ["[" * 500, '\\"' + "{" * 500, []]
        self.assertEqual(parse_envelope(encode("a", "", payload)[4:]).payload, payload)


class Reading(unittest.TestCase):
    def test_random_envelopes_come_back(self) -> None:
        rand = random.Random(1)

        def text() -> str:
            return "".join(rand.choice('aZ0:"\\/\u007fé\u2028識😀 ') for _ in range(rand.randrange(1, 8)))

        def value(depth: int) -> object:
            if depth == 0 or rand.random() < 0.4:
                return rand.choice([None, True, rand.randrange(-(10**30), 10**30), rand.random(), text(), ""])
            if rand.random() < 0.5:
                return [value(depth - 1) for _ in range(rand.randrange(4))]
            return {text(): value(depth - 1) for _ in range(rand.randrange(4))}

        frames = irohub.FrameReader()
        for _ in range(300):
            sent = [irohub.Event(text(), text(), value(8)) for _ in range(rand.randrange(5))]
            stream = b"".join(encode(event.type, event.id, event.payload) for event in sent)
            got: list[irohub.Event] = []
            while stream:
                step = rand.randrange(1, 200)
                got += [parse_envelope(body) for body in frames.feed(stream[:step])]
                stream = stream[step:]
            self.assertEqual([(e.topic, e.payload) for e in got], [(e.topic, e.payload) for e in sent])
            frames.end()

    def test_numbers_that_are_too_large_for_python(self) -> None:
        """A Decimal has them all, and can be sent back."""
        digits = "9" * 5000  # Python refuses to make an int of more than 4,300
        for number in (digits, "-" + digits, "1e400", "-1.50E+400", digits + ".5", "1e999999999"):
            for body in (
                b'{"type":"a","payload":[1,' + number.encode() + b',2.5]}',
                b'{ "type":"a","payload":[1,' + number.encode() + b',2.5]}',
            ):
                event = parse_envelope(body)
                self.assertEqual(event.payload, [1, Decimal(number), 2.5])
                self.assertEqual(event.json, f"[1,{number},2.5]")
                again = parse_envelope(encode("a", "", event.payload)[4:])
                self.assertEqual(again.payload, event.payload)
        self.assertEqual(parse_envelope(b'{"type":"a","payload":1e9999999999999999999}').payload, math.inf)

    def test_decimals(self) -> None:
        payload = {"a": Decimal("1.10"), "b": ["x", Decimal("-0"), Decimal("1E-7")]}
        self.assertEqual(encode("a", "", payload)[4:], b'{"type":"a","payload":{"a":1.10,"b":["x",-0,1E-7]}}')
        for bad in (Decimal("NaN"), Decimal("Infinity"), {Decimal(1): 1}):
            with self.subTest(bad), self.assertRaises(irohub.InvalidPayloadError):
                encode("a", "", bad)

    def test_usual_form_is_read_as_any_other(self) -> None:
        node = "ab" * 32
        for members in (
            '"type":"a"', '"type":"a","id":"b"', '"type":"a","id":""', '"type":"a","id":"é","from":"' + node + '"',
            '"type":"a","payload":{"x":[1]}', '"type":"a","payload":"}"', '"type":"a","payload":1,"from":"' + node + '"',
            '"type":"a","payload":1,"payload":1', '"type":"a","payload":1,', '"type":"a","payload":}', '"type":""',
            '"type":"a","payload":1}', '"type":"a\\n","payload":1', '"type":"a","from":"' + node + '","payload":NaN',
        ):  # fmt: skip
            results = []
            for body in ("{" + members + "}", "{ " + members + "}"):
                try:
                    results.append(repr(parse_envelope(body.encode())))
                except irohub.ProtocolError as error:
                    results.append(str(error))
            self.assertEqual(results[0], results[1], members)

    def test_far_too_deep(self) -> None:
        for body in (b'{"type":"a","x":' + b"[" * 1_000_000, b'{"type":"a","x":' + b'{"a":' * 200_000):
            with self.assertRaises(irohub.ProtocolError):
                parse_envelope(body)

    def test_time_is_linear(self) -> None:
        # Each made some parser quadratic: a string without an end, and brackets in one.
        for body in (b'{"type":"a","x":"' + b'\\"[' * 300_000, b'{"type":"a","x":"' + b"[" * 1_000_000 + b'"}'):
            try:
                parse_envelope(body)
            except irohub.ProtocolError:
                pass

    def test_from_of_another_form(self) -> None:
        for value in ('"ab"', "1", "null", '"' + "AB" * 32 + '"', '"' + "ab" * 32 + '\\n"'):
            with self.subTest(value), self.assertRaises(irohub.ProtocolError):
                parse_envelope(b'{"type":"a","from":' + value.encode() + b"}")

    def test_length_is_checked_before_more_is_taken(self) -> None:
        frames = irohub.FrameReader(10)
        with self.assertRaises(irohub.ProtocolError):
            list(frames.feed((11).to_bytes(4, "big")))

    def test_largest_frame(self) -> None:
        frame = encode("a", "", "x" * 10)
        self.assertEqual(list(irohub.FrameReader(len(frame) - 4).feed(frame)), [frame[4:]])
        with self.assertRaises(irohub.ProtocolError):
            list(irohub.FrameReader(len(frame) - 5).feed(frame))


class Errors(unittest.TestCase):
    def test_close_codes(self) -> None:
        kinds = [type(_errors.close_error(code)) for code in range(8)]
        self.assertEqual(
            kinds,
            [
                irohub.EndedError,
                irohub.ShutdownError,
                irohub.ProtocolError,
                irohub.ForbiddenError,
                irohub.SlowError,
                irohub.TooManyError,
                irohub.TimeoutClosedError,
                irohub.CloseError,
            ],
        )
        error = _errors.close_error(77, "words")
        self.assertEqual((error.code, error.reason, str(error)), (77, "words", "closed: code 77: words"))

    def test_words_of_the_binding(self) -> None:
        for words, code, reason in (
            ("closed by peer: 0", 0, ""),
            ("closed by peer: any (code 9) reason\nat all (code 3)", 3, "any (code 9) reason\nat all"),
            ("closed by peer: 5 (code 4)", 4, "5"),
        ):
            error = _link.closed_error(words)
            assert isinstance(error, irohub.CloseError)
            self.assertEqual((error.code, error.reason), (code, reason))
        for words in ("timed out", "closed", "closed by peer: (code x)"):
            self.assertIs(type(_link.closed_error(words)), irohub.LostError)

    def test_refusals(self) -> None:
        refused = _errors.refusal({"code": "forbidden", "topic": "t", "message": "words", "later": 1})
        self.assertIs(type(refused), irohub.TopicForbiddenError)
        self.assertEqual((refused.topic, refused.message), ("t", "words"))
        others: tuple[object, ...] = (None, [], {"code": 1}, {"code": "later"})
        for payload in others:
            self.assertIs(type(_errors.refusal(payload)), irohub.RefusedError)


if __name__ == "__main__":
    unittest.main()
