"""Boxes out of the dense map, and the letterbox before it."""
import cv2
import numpy as np
import pytest

from hand_pose_ros import detect
from hand_pose_ros.errors import FrameError

SIZE = (96, 128)


def dense(hands, size=SIZE):
    """The map a perfect network gives: hands are (box, score, right, up); the peak is in the cell of the middle."""
    h, w = size[0] // 8, size[1] // 8
    out = np.zeros((8, h, w), np.float32)
    for box, score, right, up in hands:
        x0, y0, x1, y1 = box
        column, row = int(((x0 + x1) / 2 + 0.5) // 8), int(((y0 + y1) / 2 + 0.5) // 8)
        u, v = (column + 0.5) * 8 - 0.5, (row + 0.5) * 8 - 0.5
        out[:, row, column] = (score, u - x0, v - y0, x1 - u, y1 - v, right, *up)
    return out


def test_decode_gives_back_what_was_written():
    hands = [((10, 20, 50, 70), 0.9, 0.8, (0, -1)), ((80, 5, 120, 30), 0.6, 0.1, (0.6, 0.8))]
    found = detect.decode(dense(hands), 0.3)
    assert len(found) == 2
    for answer, (box, score, right, up) in zip(found, hands):
        assert np.allclose(answer.box, box, atol=1e-4) and np.allclose(answer.up, up, atol=1e-6)
        assert answer.score == pytest.approx(score) and answer.right_probability == pytest.approx(right)


def test_decode_sorts_and_leaves_out_low_scores():
    hands = [((10, 20, 50, 70), 0.4, 0.8, (0, -1)), ((80, 5, 120, 30), 0.9, 0.1, (0, 1)),
             ((90, 60, 110, 90), 0.2, 0, (0, 1))]
    assert [round(d.score, 1) for d in detect.decode(dense(hands), 0.3)] == [0.9, 0.4]


def test_two_peaks_on_one_hand_are_one_and_on_two_hands_two():
    one = dense([((10, 20, 60, 70), 0.9, 1, (0, -1)), ((14, 20, 76, 70), 0.8, 1, (0, -1))])
    two = dense([((10, 20, 50, 70), 0.9, 1, (0, -1)), ((42, 20, 90, 70), 0.8, 1, (0, -1))])
    assert len(detect.decode(one, 0.3)) == 1 and len(detect.decode(two, 0.3)) == 2


def test_a_second_peak_on_a_hand_is_none_though_another_hand_comes_between_them():
    first, second, again = (10, 20, 60, 70), (86, 20, 118, 70), (10, 20, 84, 70)         # none in a neighbouring cell
    found = detect.decode(dense([(first, 0.9, 1, (0, -1)), (second, 0.85, 1, (0, -1)), (again, 0.8, 1, (0, -1))]), 0.3)
    assert [round(one.score, 2) for one in found] == [0.9, 0.85]


def test_a_slope_is_one_peak():
    map_ = dense([((10, 20, 60, 70), 0.9, 1, (0, -1))])
    map_[0] = cv2.GaussianBlur(map_[0], (5, 5), 1.5) * 5
    assert len(detect.decode(map_, 0.05)) == 1


def test_no_hand_is_an_empty_list_and_an_unclear_direction_is_unknown():
    assert detect.decode(np.zeros((8, 12, 16), np.float32), 0.3) == []
    assert np.isnan(detect.decode(dense([((10, 20, 50, 70), 0.9, 0.8, (0.01, 0.01))]), 0.3)[0].up).all()


@pytest.mark.parametrize("height, width", [(96, 128), (480, 640), (100, 100), (37, 300), (720, 405), (50, 40)])
def test_boxes_come_back_in_pixels_of_the_image(height, width):
    """Outside truth: a white rectangle is looked for in the picture that the network gets."""
    image = np.zeros((height, width, 3), np.uint8)
    x0, y0, x1, y1 = width // 4, height // 4, (3 * width) // 4, (3 * height) // 4
    image[y0:y1, x0:x1] = 255

    def network(batch):
        rows, columns = np.nonzero(batch[0, :, :, 0] > 127)
        box = (columns.min() - 0.5, rows.min() - 0.5, columns.max() + 0.5, rows.max() + 0.5)
        return (dense([(box, 0.9, 1.0, (0, -1))])[None],)

    found = detect.Detector(network, SIZE)(image)
    pixel = max(1.0, max(height / SIZE[0], width / SIZE[1]))
    assert np.allclose(found[0].box, (x0 - 0.5, y0 - 0.5, x1 - 0.5, y1 - 0.5), atol=1.1 * pixel)


def test_letterbox_keeps_the_shape_of_things_and_fills_with_black():
    picture, scale, offset = detect.letterbox(np.full((100, 50, 3), 200, np.uint8), SIZE)
    assert picture.shape == (*SIZE, 3) and scale == pytest.approx(0.96)
    lit = picture.any(-1)
    assert lit.sum() == 96 * 48 and lit[:, 40:88].all()
    assert np.allclose(offset, (40 - 0.02, -0.02))


@pytest.mark.parametrize("shape", [(480, 640), (720, 1280), (1080, 1920), (600, 800), (120, 160)])
def test_letterbox_puts_each_pixel_where_it_says(shape):
    """A grey ramp along each axis, dithered, read back at the place that scale and offset give."""
    height, width = shape
    ramps = np.stack(np.broadcast_arrays(np.arange(width) * (250 / width), np.arange(height)[:, None] * (250 / height),
                                         np.zeros(())), -1)
    dithered = np.uint8(ramps + np.random.default_rng(0).uniform(0, 1, ramps.shape))
    picture, scale, offset = detect.letterbox(dithered, (224, 256))
    (h, w), (top, left), *_ = detect.fitted(shape, (224, 256))
    u, v = np.meshgrid(np.arange(left + 3, left + w - 3), np.arange(top + 3, top + h - 3))
    expected = np.stack([(u - offset[0]) / scale * (250 / width), (v - offset[1]) / scale * (250 / height)], -1)
    error = picture[v, u, :2] - expected
    assert np.abs(error).max() < 1.5 and np.abs(error.mean((0, 1))).max() < 0.15


def test_whole_blocks_fit_and_leave_little_to_the_second_step():
    assert [detect.whole_blocks(shape, scale) for shape, scale in (
        ((480, 640), 0.4), ((720, 1280), 0.2), ((1080, 1920), 1 / 7.5), ((481, 640), 0.4), ((600, 800), 0.55),
        ((480, 640), 0.5), ((120, 160), 1.6))] == [2, 5, 6, 1, 1, 2, 1]


@pytest.mark.parametrize("image", [np.zeros((10, 10), np.uint8), np.zeros((10, 10, 3), np.float32),
                                   np.zeros((0, 10, 3), np.uint8), np.zeros((10, 10, 4), np.uint8)])
def test_what_is_not_a_picture_is_refused(image):
    with pytest.raises(FrameError, match="uint8"):
        detect.Detector(lambda batch: None, SIZE)(image)


def test_iou_of_known_boxes():
    a = np.array([0, 0, 10, 10.0])
    assert detect.iou(a, a) == 1.0 and detect.iou(a, a + 10) == 0.0
    assert detect.iou(a, np.array([5, 0, 15, 10.0])) == pytest.approx(1 / 3)


def test_many_peaks_on_one_hand_do_not_use_up_the_room_of_another():
    big = [((0, 0, 200, 200), 0.9 - 0.01 * k, 1, (0, -1)) for k in range(20)]
    map_ = dense([((230, 210, 250, 230), 0.5, 1, (0, -1))], (240, 256))
    for k, (box, score, *_) in enumerate(big):
        row, column = 4 + 3 * (k // 5), 4 + 3 * (k % 5)
        u, v = (column + 0.5) * 8 - 0.5, (row + 0.5) * 8 - 0.5
        map_[:, row, column] = (score, u - box[0], v - box[1], box[2] - u, box[3] - v, 1, 0, -1)
    assert [round(float(d.score), 2) for d in detect.decode(map_, 0.3)] == [0.9, 0.5]


def test_a_direction_is_told_by_a_vector_of_half_length():
    (found,) = detect.decode(dense([((10, 20, 50, 70), 0.9, 0.8, (0.3, 0.4))]), 0.3)
    np.testing.assert_allclose(found.up, (0.6, 0.8), atol=1e-6)
