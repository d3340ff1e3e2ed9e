import os
from io import TextIOWrapper

from payments.observability import UnbreakableOutput


class TestUnbreakableOutput:
    def test_goes_on_when_nobody_reads_any_more(self) -> None:
        reading, writing = os.pipe()
        os.close(reading)
        with os.fdopen(writing, "wb", buffering=0) as raw:
            output = UnbreakableOutput(TextIOWrapper(raw, write_through=True))

            assert output.write("payment.completed\n") == 0
            output.flush()

    def test_goes_on_when_the_output_is_closed(self) -> None:
        reading, writing = os.pipe()
        os.close(reading)
        stream = os.fdopen(writing, "w")
        stream.close()

        assert UnbreakableOutput(stream).write("payment.completed\n") == 0
