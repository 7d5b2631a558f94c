"""The painter of the built-in people. Needs the extra `demo`; reading the finished pictures does not."""
