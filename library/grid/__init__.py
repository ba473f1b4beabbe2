"""Pictures drawn over two or three axes, such as strengths and seeds, as one picture and one page."""
