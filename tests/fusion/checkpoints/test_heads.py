import pytest

from fusion.checkpoints.heads import find_head, read_labels

CLASSIFIER = {"architectures": ["BertForSequenceClassification"]}


@pytest.mark.parametrize(
    ("config", "head"),
    [
        (CLASSIFIER, "classes"),
        ({**CLASSIFIER, "problem_type": "multi_label_classification"}, "labels"),
        ({**CLASSIFIER, "id2label": {"0": "LABEL_0"}}, "value"),
        ({**CLASSIFIER, "num_labels": 1}, "value"),
        ({**CLASSIFIER, "problem_type": "regression"}, "value"),
        ({"architectures": ["BertForTokenClassification"]}, "token-classes"),
        ({"architectures": ["BertForQuestionAnswering"]}, "span"),
        ({"architectures": ["GPT2LMHeadModel"]}, "tokens"),
        ({"architectures": ["T5ForConditionalGeneration"]}, "tokens"),
        ({"architectures": ["BertModel"]}, None),
        ({"architectures": "BertModel"}, None),
        ({}, None),
    ],
)
def test_a_head_is_recognised_by_what_it_is(config, head):
    assert find_head(config) == head


@pytest.mark.parametrize(
    ("config", "labels"),
    [
        ({"id2label": {"1": "b", "0": "a"}}, ("a", "b")),
        ({"id2label": {1: "b", 0: "a"}}, ("a", "b")),
        ({}, ("LABEL_0", "LABEL_1")),
        ({"num_labels": 3}, ("LABEL_0", "LABEL_1", "LABEL_2")),
        ({"id2label": {"one": "a", "two": "b"}}, None),
        ({"id2label": {"1": "a", "2": "b"}}, None),
    ],
)
def test_labels_stand_in_the_order_of_the_outputs_or_cannot_be_read(config, labels):
    assert read_labels(config) == labels
