"""Knowledge distillation of Keras models: `make.distill`. A student learns what a teacher answers.

plan       what is asked for
student    a student's configuration derived from the teacher's by width and depth
perform    the step that does it, with TensorFlow
make       the same from outside, kept by content
"""
