"""The renderer of the synthetic people. It needs the extra `demo`; reading the finished pictures does not."""
