from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RecommendRequest(_message.Message):
    __slots__ = ("users", "k", "exclude_seen", "categories")
    USERS_FIELD_NUMBER: _ClassVar[int]
    K_FIELD_NUMBER: _ClassVar[int]
    EXCLUDE_SEEN_FIELD_NUMBER: _ClassVar[int]
    CATEGORIES_FIELD_NUMBER: _ClassVar[int]
    users: _containers.RepeatedCompositeFieldContainer[User]
    k: int
    exclude_seen: bool
    categories: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, users: _Optional[_Iterable[_Union[User, _Mapping]]] = ..., k: _Optional[int] = ..., exclude_seen: _Optional[bool] = ..., categories: _Optional[_Iterable[str]] = ...) -> None: ...

class User(_message.Message):
    __slots__ = ("user_id", "liked")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    LIKED_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    liked: _containers.RepeatedCompositeFieldContainer[LikedItem]
    def __init__(self, user_id: _Optional[str] = ..., liked: _Optional[_Iterable[_Union[LikedItem, _Mapping]]] = ...) -> None: ...

class LikedItem(_message.Message):
    __slots__ = ("item_id", "rating")
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    RATING_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    rating: float
    def __init__(self, item_id: _Optional[str] = ..., rating: _Optional[float] = ...) -> None: ...

class RecommendResponse(_message.Message):
    __slots__ = ("model_version", "results")
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    model_version: str
    results: _containers.RepeatedCompositeFieldContainer[UserList]
    def __init__(self, model_version: _Optional[str] = ..., results: _Optional[_Iterable[_Union[UserList, _Mapping]]] = ...) -> None: ...

class UserList(_message.Message):
    __slots__ = ("user_id", "source", "items")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    source: str
    items: _containers.RepeatedCompositeFieldContainer[RankedItem]
    def __init__(self, user_id: _Optional[str] = ..., source: _Optional[str] = ..., items: _Optional[_Iterable[_Union[RankedItem, _Mapping]]] = ...) -> None: ...

class RankedItem(_message.Message):
    __slots__ = ("rank", "item_id", "score", "title")
    RANK_FIELD_NUMBER: _ClassVar[int]
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    rank: int
    item_id: str
    score: float
    title: str
    def __init__(self, rank: _Optional[int] = ..., item_id: _Optional[str] = ..., score: _Optional[float] = ..., title: _Optional[str] = ...) -> None: ...

class SimilarItemsRequest(_message.Message):
    __slots__ = ("item_ids", "k", "categories")
    ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    K_FIELD_NUMBER: _ClassVar[int]
    CATEGORIES_FIELD_NUMBER: _ClassVar[int]
    item_ids: _containers.RepeatedScalarFieldContainer[str]
    k: int
    categories: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, item_ids: _Optional[_Iterable[str]] = ..., k: _Optional[int] = ..., categories: _Optional[_Iterable[str]] = ...) -> None: ...

class SimilarItemsResponse(_message.Message):
    __slots__ = ("model_version", "results")
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    model_version: str
    results: _containers.RepeatedCompositeFieldContainer[NeighbourList]
    def __init__(self, model_version: _Optional[str] = ..., results: _Optional[_Iterable[_Union[NeighbourList, _Mapping]]] = ...) -> None: ...

class NeighbourList(_message.Message):
    __slots__ = ("item_id", "items")
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    items: _containers.RepeatedCompositeFieldContainer[RankedItem]
    def __init__(self, item_id: _Optional[str] = ..., items: _Optional[_Iterable[_Union[RankedItem, _Mapping]]] = ...) -> None: ...

class NewBook(_message.Message):
    __slots__ = ("title", "author", "categories", "numbers")
    class NumbersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    TITLE_FIELD_NUMBER: _ClassVar[int]
    AUTHOR_FIELD_NUMBER: _ClassVar[int]
    CATEGORIES_FIELD_NUMBER: _ClassVar[int]
    NUMBERS_FIELD_NUMBER: _ClassVar[int]
    title: str
    author: str
    categories: str
    numbers: _containers.ScalarMap[str, float]
    def __init__(self, title: _Optional[str] = ..., author: _Optional[str] = ..., categories: _Optional[str] = ..., numbers: _Optional[_Mapping[str, float]] = ...) -> None: ...

class NewBookSimilarRequest(_message.Message):
    __slots__ = ("books", "k", "categories")
    BOOKS_FIELD_NUMBER: _ClassVar[int]
    K_FIELD_NUMBER: _ClassVar[int]
    CATEGORIES_FIELD_NUMBER: _ClassVar[int]
    books: _containers.RepeatedCompositeFieldContainer[NewBook]
    k: int
    categories: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, books: _Optional[_Iterable[_Union[NewBook, _Mapping]]] = ..., k: _Optional[int] = ..., categories: _Optional[_Iterable[str]] = ...) -> None: ...

class NewBookSimilarResponse(_message.Message):
    __slots__ = ("model_version", "results")
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    model_version: str
    results: _containers.RepeatedCompositeFieldContainer[NewBookItems]
    def __init__(self, model_version: _Optional[str] = ..., results: _Optional[_Iterable[_Union[NewBookItems, _Mapping]]] = ...) -> None: ...

class NewBookItems(_message.Message):
    __slots__ = ("items",)
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[RankedItem]
    def __init__(self, items: _Optional[_Iterable[_Union[RankedItem, _Mapping]]] = ...) -> None: ...

class NewBookUsersRequest(_message.Message):
    __slots__ = ("books", "k")
    BOOKS_FIELD_NUMBER: _ClassVar[int]
    K_FIELD_NUMBER: _ClassVar[int]
    books: _containers.RepeatedCompositeFieldContainer[NewBook]
    k: int
    def __init__(self, books: _Optional[_Iterable[_Union[NewBook, _Mapping]]] = ..., k: _Optional[int] = ...) -> None: ...

class NewBookUsersResponse(_message.Message):
    __slots__ = ("model_version", "results")
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    model_version: str
    results: _containers.RepeatedCompositeFieldContainer[NewBookUserList]
    def __init__(self, model_version: _Optional[str] = ..., results: _Optional[_Iterable[_Union[NewBookUserList, _Mapping]]] = ...) -> None: ...

class NewBookUserList(_message.Message):
    __slots__ = ("users",)
    USERS_FIELD_NUMBER: _ClassVar[int]
    users: _containers.RepeatedCompositeFieldContainer[RankedUser]
    def __init__(self, users: _Optional[_Iterable[_Union[RankedUser, _Mapping]]] = ...) -> None: ...

class RankedUser(_message.Message):
    __slots__ = ("rank", "user_id", "score")
    RANK_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    rank: int
    user_id: str
    score: float
    def __init__(self, rank: _Optional[int] = ..., user_id: _Optional[str] = ..., score: _Optional[float] = ...) -> None: ...

class ModelRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ModelResponse(_message.Message):
    __slots__ = ("uri", "version", "run_id", "loaded_at", "n_users", "n_items", "n_bytes", "book_columns", "index", "provenance")
    URI_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    LOADED_AT_FIELD_NUMBER: _ClassVar[int]
    N_USERS_FIELD_NUMBER: _ClassVar[int]
    N_ITEMS_FIELD_NUMBER: _ClassVar[int]
    N_BYTES_FIELD_NUMBER: _ClassVar[int]
    BOOK_COLUMNS_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    uri: str
    version: str
    run_id: str
    loaded_at: str
    n_users: int
    n_items: int
    n_bytes: int
    book_columns: _containers.RepeatedScalarFieldContainer[str]
    index: Index
    provenance: _struct_pb2.Struct
    def __init__(self, uri: _Optional[str] = ..., version: _Optional[str] = ..., run_id: _Optional[str] = ..., loaded_at: _Optional[str] = ..., n_users: _Optional[int] = ..., n_items: _Optional[int] = ..., n_bytes: _Optional[int] = ..., book_columns: _Optional[_Iterable[str]] = ..., index: _Optional[_Union[Index, _Mapping]] = ..., provenance: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ...) -> None: ...

class Index(_message.Message):
    __slots__ = ("recall_mean", "recall_lowest", "k", "n_users", "build_seconds", "n_bytes")
    RECALL_MEAN_FIELD_NUMBER: _ClassVar[int]
    RECALL_LOWEST_FIELD_NUMBER: _ClassVar[int]
    K_FIELD_NUMBER: _ClassVar[int]
    N_USERS_FIELD_NUMBER: _ClassVar[int]
    BUILD_SECONDS_FIELD_NUMBER: _ClassVar[int]
    N_BYTES_FIELD_NUMBER: _ClassVar[int]
    recall_mean: float
    recall_lowest: float
    k: int
    n_users: int
    build_seconds: float
    n_bytes: int
    def __init__(self, recall_mean: _Optional[float] = ..., recall_lowest: _Optional[float] = ..., k: _Optional[int] = ..., n_users: _Optional[int] = ..., build_seconds: _Optional[float] = ..., n_bytes: _Optional[int] = ...) -> None: ...
