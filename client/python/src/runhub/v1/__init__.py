"""All messages and enums of the API."""

from runhub.v1.agent_pb2 import *
from runhub.v1.agent_service_pb2 import *
from runhub.v1.approval_pb2 import *
from runhub.v1.approval_service_pb2 import *
from runhub.v1.artifact_pb2 import *
from runhub.v1.artifact_service_pb2 import *
from runhub.v1.checkpoint_pb2 import *
from runhub.v1.checkpoint_service_pb2 import *
from runhub.v1.error_pb2 import *
from runhub.v1.event_pb2 import *
from runhub.v1.event_service_pb2 import *
from runhub.v1.options_pb2 import *
from runhub.v1.run_pb2 import *
from runhub.v1.run_service_pb2 import *
from runhub.v1.server_pb2 import *
from runhub.v1.server_service_pb2 import *
from runhub.v1.snapshot_pb2 import *
from runhub.v1.task_pb2 import *
from runhub.v1.task_service_pb2 import *
