"""Caffe's messages under the name that scripts know; crnn.proto.messages makes them, in a private pool."""

from crnn.proto import messages

globals().update({name: value for name, value in vars(messages).items() if not name.startswith("_")})
