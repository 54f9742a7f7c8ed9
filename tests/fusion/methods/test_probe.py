import torch

from fusion.methods import METHODS
from fusion.methods.probe import digest_arithmetic


def test_the_probe_is_the_same_every_time_and_on_every_thread_count():
    known = digest_arithmetic()
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert digest_arithmetic() == known
    finally:
        torch.set_num_threads(threads)


def test_one_bit_less_in_any_dtype_is_another_digest(monkeypatch):
    known, kernel = digest_arithmetic(), METHODS["linear"]
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):

        def other(request, inputs, out, dtype=dtype):
            largest = kernel(request, inputs, out)
            if out.dtype == dtype:
                out.view(torch.uint8)[-2] ^= 1
            return largest

        monkeypatch.setitem(METHODS, "linear", other)
        assert digest_arithmetic() != known
        monkeypatch.setitem(METHODS, "linear", kernel)
