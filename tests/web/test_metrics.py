import torchnin
from torchnin.web.metrics import Metrics


def lines_of(metrics: Metrics, name: str) -> list[str]:
    return [line for line in metrics.text().decode().splitlines() if line.startswith(name)]


def test_requests_are_counted_by_path_and_status_and_unknown_paths_together() -> None:
    metrics = Metrics()
    for path, status in (("/v1/predict", 200), ("/v1/predict", 200), ("/v1/predict", 415), ("/words.js", 200), ("/a/stranger/s", 200)):
        metrics.answered(path, status, 0.003)
    assert lines_of(metrics, "nin_requests_total") == [
        'nin_requests_total{path="/v1/predict",status="200"} 2.0',
        'nin_requests_total{path="/v1/predict",status="415"} 1.0',
        'nin_requests_total{path="other",status="200"} 2.0',
    ]
    assert lines_of(metrics, 'nin_request_seconds_bucket{le="0.0025",path="/v1/predict"}')[0].endswith(" 0.0")
    assert lines_of(metrics, 'nin_request_seconds_bucket{le="0.005",path="/v1/predict"}')[0].endswith(" 3.0")


def test_what_waits_and_what_is_held_is_asked_when_it_is_read() -> None:
    metrics, held = Metrics(), [3.0, 4096.0]
    metrics.watch_waiting(lambda: held[0])
    metrics.watch_memory(lambda: held[1])
    assert lines_of(metrics, "nin_waiting_pictures") == ["nin_waiting_pictures 3.0"]
    held[:] = [0.0, 8192.0]
    assert lines_of(metrics, "nin_waiting_pictures") == ["nin_waiting_pictures 0.0"]
    assert lines_of(metrics, "nin_lookers_resident_memory_bytes") == ["nin_lookers_resident_memory_bytes 8192.0"]


def test_batches_and_the_version_are_told() -> None:
    metrics = Metrics()
    for size in (1, 5):
        metrics.batch(size)
    assert lines_of(metrics, "nin_batch_pictures_sum") == ["nin_batch_pictures_sum 6.0"]
    assert lines_of(metrics, "nin_batch_pictures_count") == ["nin_batch_pictures_count 2.0"]
    assert lines_of(metrics, "nin_info") == [f'nin_info{{version="{torchnin.__version__}"}} 1.0']
