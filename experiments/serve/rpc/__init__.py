"""The same answers over gRPC: recommender.proto, and the code that protoc generates from it."""
